"""Random cells with arbitrary steps: recipes from a seed, and the cell that a recipe says."""

import random

import torch
import torch.nn.functional as F
from torch import nn

from throughtime.core.cell import Cell
from throughtime.core.state import state_type

ONE = {
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "relu": torch.relu,
    "sin": torch.sin,
    "softplus": F.softplus,
    "silu": F.silu,
    "elu": F.elu,
    "gelu": F.gelu,
    "square": torch.square,
    "exp": lambda a: torch.exp(a.clamp(-2, 2)),
    "root": lambda a: torch.sqrt(a * a + 0.1),
    "inverse": lambda a: 1 / (1 + a.abs()),
    "log": lambda a: torch.log1p(a.abs()),
    "hardtanh": F.hardtanh,
    "scaled": lambda a: 0.3 * a - 1,
    "masked": lambda a: a.masked_fill(a > 0.5, 0.25),
    "in place": lambda a: (a + 1).mul_(0.5).tanh_(),
    "written": lambda a: (a * 1).clamp_(-1, 1).add_(a),
    "copied": lambda a: a.clone().contiguous() - a / 2,
    "filled": lambda a: a + torch.full_like(a, 0.5) * a.new_ones(a.shape),
    "constant": lambda a: a * a.new_tensor([1.5]),
    "counted": lambda a: (a > 0).to(a.dtype) * a,
}
TWO = {
    "add": torch.add,
    "subtract": torch.sub,
    "multiply": torch.mul,
    "divide": lambda a, b: a / (1 + b.abs()),
    "maximum": torch.maximum,
    "minimum": torch.minimum,
    "choose": lambda a, b: torch.where(a > b, a.sin(), b),
    "mix": lambda a, b: torch.lerp(a, b, 0.3),
    "gate": lambda a, b: a.sigmoid() * b,
    "both": lambda a, b: torch.where((a > 0) & (b > 0), a, b * 0.5),
    "addcmul": lambda a, b: torch.addcmul(a, a, b, value=0.5),
}
# to one number of each sequence
REDUCED = {
    "sum": lambda a: a.sum(-1, keepdim=True) / a.shape[-1],
    "mean": lambda a: a.mean(-1, keepdim=True),
    "largest": lambda a: a.amax(-1, keepdim=True),
    "smallest": lambda a: a.amin(-1, keepdim=True),
    "variance": lambda a: a.var(-1, keepdim=True, correction=0),
    "deviation": lambda a: a.std(-1, keepdim=True, correction=0),
    "norm": lambda a: a.norm(dim=-1, keepdim=True),
    "norm of sizes": lambda a: torch.linalg.vector_norm(a, 1, dim=-1, keepdim=True),
    "logsumexp": lambda a: a.logsumexp(-1, keepdim=True),
    "inner product": lambda a: (a * a.flip(-1)).mean(1)[:, None],
    "largest of rectified": lambda a: a.relu().amax(-1, keepdim=True),
}
ROWS = {
    "softmax": lambda a: a.softmax(-1),
    "log_softmax": lambda a: a.log_softmax(-1) * 0.1,
    "layer_norm": lambda a: F.layer_norm(a, a.shape[-1:], eps=0.1),
    "normalised": lambda a: a / (0.1 + a.norm(dim=1, keepdim=True)),
    "centred": lambda a: a - a.mean(-1, keepdim=True),
    "rolled": lambda a: a.roll(1, -1),
    "doubled": lambda a: torch.cat([a, a.tanh()], -1),
    "first": lambda a: a[:, : (a.shape[-1] + 1) // 2],
    "rest": lambda a: a[:, a.shape[-1] // 2 :],
    "outer": lambda a: (a[:, :3, None] * a[:, None, :3]).flatten(1),
    "repeated": lambda a: a[:, :1].expand(-1, 4) * 0.5,
    "repeated all": lambda a: torch.stack([a, a], 1).flatten(1),
    "groups": lambda a: (
        a[:, : a.shape[-1] // 2 * 2].unflatten(-1, (-1, 2)).sum(-1) if a.shape[-1] > 1 else a
    ),
    "largest of groups": lambda a: torch.stack([a, a.relu(), a.tanh()], 1).amax(1),
    "crossed": lambda a: torch.cat(a.tensor_split(2, -1)[::-1], -1),
}
# with parameters: their shapes for a value of width n, and what is done
WEIGHTED = {
    "vector": (lambda n: [(n,), (1,)], lambda a, v, s: a * v + s),
    "number": (lambda n: [()], lambda a, s: a * s),
    "normal": (lambda n: [(n,), (n,)], lambda a, g, b: F.layer_norm(a, b.shape, g, b, 0.1)),
    "columns": (lambda n: [(n, 5)], lambda a, m: a @ m[:, 1:4]),
    "again": (lambda n: [(n, n)], lambda a, m: (a @ m).tanh() @ m.t()),
    "there and back": (lambda n: [(6, n)], lambda a, m: F.linear(a, m) @ m),
    "chain": (lambda n: [(4, n), (5, 4)], lambda a, m, k: F.linear(F.linear(a, m), k)),
    "narrow": (lambda n: [(1, n), (1,)], F.linear),
    "map": (lambda n: [(7, n)], F.linear),
    "affine": (lambda n: [(16, n), (16,)], F.linear),
    "scaled matrix": (lambda n: [(n, 4), (4,)], lambda a, m, v: a @ (m * v).exp().tanh()),
    "mixed": (lambda n: [(4, n), (3, n)], lambda a, m, k: F.linear(a, torch.cat([m, k]))),
    "einsum": (lambda n: [(n, 3)], lambda a, m: torch.einsum("bi,ij->bj", a, m)),
    "beside": (lambda n: [(3,)], lambda a, v: torch.cat([a, v.expand(len(a), -1)], -1)),
}
JOINED = {
    "cat": lambda a, b: torch.cat([a, b], -1),
    "split": lambda a, b: torch.cat([a, b], -1).split([a.shape[-1], b.shape[-1]], -1)[1] * a[:, :1],
    "chunks": lambda a, b: torch.cat([b, a], -1).chunk(2, -1)[0],
}
TABLES = {"one": ONE, "two": TWO, "reduced": REDUCED, "rows": ROWS, "joined": JOINED}
NAMES = [(kind, name) for kind, table in TABLES.items() for name in table]
NAMES += [("weighted", name) for name in WEIGHTED]


def recipe(seed, must=(), length=8):
    """Return what a seed says: sizes, shapes of parameters, instructions, and the results.

    An instruction is a kind, a name, the positions of values, and those of parameters. The values
    are the input, the fields of the state, and the results of instructions before. `must` are
    instructions that take part; then the first field depends on all values.
    """
    draw = random.Random(seed)
    sizes = [draw.choice((1, 2, 3, 5, 6, 8, 16, 17)) for _ in range(draw.randint(2, 4))]
    if draw.random() < 0.3:
        sizes = [sizes[0]] * len(sizes)
    values = [torch.zeros(1, n) for n in sizes]
    shapes, code = [], []

    def pick(fit=lambda n: True):
        found = [i for i, value in enumerate(values) if fit(value.shape[1])]
        return found[-1 - int(draw.random() ** 2 * len(found))]  # rather a recent one

    def enter(kind, name, *chosen, of=()):
        made = applied(kind, name, [values[i] for i in chosen], [torch.ones(s) for s in of])
        own = tuple(range(len(shapes), len(shapes) + len(of)))
        if made.shape[1] <= 40:
            shapes.extend(of)
            code.append((kind, name, chosen, own))
            values.append(made)

    todo = [*must, *(draw.choice(NAMES) for _ in range(draw.randint(0, length)))]
    draw.shuffle(todo)
    for kind, name in todo:
        if draw.random() < 0.5:
            a = pick()
            weights = draw.choice([*WEIGHTED])
            enter("weighted", weights, a, of=WEIGHTED[weights][0](values[a].shape[1]))
        a = pick()
        n = values[a].shape[1]
        if kind == "two":
            enter(kind, name, a, pick(lambda m, n=n: m in (1, n)))
        elif kind == "joined":
            enter(kind, name, a, pick())
        else:
            enter(kind, name, a, of=WEIGHTED[name][0](n) if kind == "weighted" else ())
    after = []
    if must:
        every = range(len(values))
        enter("every", "", *every, of=[(sizes[1], len(every))])
        after.append(len(values) - 1)
    for n in sizes[1 + len(after) :]:
        end = draw.choice(("tanh", "direct", "shift", "map", "map"))
        if end == "map":
            a = pick()
            enter("end", "map", a, of=[(n, values[a].shape[1])])
            after.append(len(values) - 1)
            continue
        fit = [i for i in range(len(values)) if values[i].shape[1] == n]
        a = fit[-1] if end != "shift" else draw.choice([i for i in fit if i <= len(sizes)])
        if end == "tanh" or (end == "direct" and a >= len(sizes)):
            enter("one", "tanh", a)
            a = len(values) - 1
        after.append(a)
    output = draw.choice((after[0], after[-1], len(values) - 1, pick()))
    return tuple(sizes), tuple(shapes), tuple(code), tuple(after), output


def applied(kind, name, values, parameters):
    """Return the result of an instruction."""
    if kind == "weighted":
        return WEIGHTED[name][1](*values, *parameters)
    if kind == "every":
        return torch.tanh(F.linear(torch.stack([v.mean(-1) for v in values], -1), *parameters))
    if kind == "end":
        return torch.tanh(F.linear(*values, *parameters))
    return TABLES[kind][name](*values)


class RandomStep(Cell):
    """The cell of a recipe."""

    def __init__(self, made):
        super().__init__()
        self.sizes, shapes, self.code, self.after, self.output = made
        self.input_size, *self.widths = self.sizes
        self.hidden_size = self.widths[0]
        self.output_size = self.hidden_size
        generator = torch.Generator().manual_seed(1)
        for i, shape in enumerate(shapes):
            size = max(1, shape[-1] if shape else 1) ** -0.5
            drawn = torch.randn(shape, generator=generator, dtype=torch.float64) * size
            self.register_parameter(f"p{i}", nn.Parameter(drawn))
        state = self.initial_state(1, dtype=torch.float64, device=torch.device("cpu"))
        shown, _ = self.step(torch.zeros(1, self.input_size, dtype=torch.float64), state)
        self.output_size = shown.shape[1]

    def initial_state(self, batch_size, *, dtype, device):
        names = ["h", "c", "d"][: len(self.widths)]
        fields = [torch.zeros(batch_size, n, dtype=dtype, device=device) for n in self.widths]
        count = torch.zeros(batch_size, dtype=torch.int64, device=device)
        return state_type(*names, "steps")(*fields, count)

    def project(self, x):
        return x

    def step(self, projected, state):
        *fields, steps = state
        values = [projected, *fields]
        for kind, name, chosen, own in self.code:
            parameters = [getattr(self, f"p{i}") for i in own]
            values.append(applied(kind, name, [values[i] for i in chosen], parameters))
        after = [values[i] for i in self.after]
        return values[self.output], type(state)(*after, steps + 1)


def class_of_its_own(made):
    """Return a cell of a class that nothing else has: few programs of a class are compiled."""
    return type("RandomStep", (RandomStep,), {})(made)
