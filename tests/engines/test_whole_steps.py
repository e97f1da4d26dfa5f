"""Cells that are not gated on the native engine: their whole steps are traced and compiled."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import throughtime as tt
from throughtime.cells import ChoGRUCell, LayerNormLSTMCell, ProjectedLSTMCell, UnitaryCell
from throughtime.core.cell import Cell
from throughtime.core.state import state_type
from throughtime.engines import NativeEngine, Refusal, Request, engine_options, run
from throughtime.engines.cpp.compiler import find_compiler
from throughtime.testing import EngineConformance
from throughtime.wiring import DeepOutputCell, GraphCell, HierarchicalCell, architecture

needs_compiler = pytest.mark.skipif(isinstance(find_compiler(), str), reason="no C++ compiler")


class Written(Cell):
    """A cell as users write it, with a function of their own as its step."""

    def __init__(self, input_size, hidden_size, function=None):
        super().__init__()
        self.input_size, self.hidden_size, self.output_size = input_size, hidden_size, hidden_size
        self.of_input = nn.Linear(input_size, hidden_size)
        self.of_past = nn.Linear(hidden_size, hidden_size)
        self.norm = nn.LayerNorm(hidden_size, eps=0.1)
        self.scale = nn.Parameter(torch.full((1,), 0.7))
        self.function = function or tanh

    def initial_state(self, batch_size, *, dtype, device):
        zeros = torch.zeros(batch_size, self.hidden_size, dtype=dtype, device=device)
        return state_type("h", "steps")(zeros, torch.zeros(batch_size, dtype=torch.int64))

    def project(self, x):
        return x

    def step(self, projected, state):
        h = self.function(self, self.of_input(projected), state.h)
        return h, type(state)(h, state.steps + 2)


def tanh(cell, x, h):
    return torch.tanh(x + cell.of_past(h))


def normalised(cell, x, h):
    """Reductions and broadcasts: layer norm, softmax, norms and means of units."""
    a = cell.norm(x + cell.of_past(h))
    weights = F.softmax(cell.scale * a, -1)
    size = h.norm(dim=-1, keepdim=True) + a.var(-1, keepdim=True, correction=0)
    return weights * torch.tanh(a) + h / (1 + size) - a.amax(-1, keepdim=True) / 8


def rearranged(cell, x, h):
    """Parts of vectors, set side by side in another order, and a product of two vectors."""
    turned = torch.cat([h[:, 1:], h[:, :1]], -1)
    doubled = torch.stack([turned, x], 1).flatten(1)
    first, second = F.linear(doubled, cell.of_past.weight.repeat(2, 2)).chunk(2, -1)
    return torch.where(first > 0, first.sin(), second) * x.sigmoid() + F.silu(turned)


@needs_compiler
class TestWholeSteps(EngineConformance):
    def engine(self):
        return NativeEngine()

    def cells(self, input_size, hidden_size):
        return [
            Written(input_size, hidden_size),
            Written(input_size, hidden_size, normalised),
            Written(input_size, hidden_size, rearranged),
            ChoGRUCell(input_size, hidden_size),
            LayerNormLSTMCell(input_size, hidden_size),
            ProjectedLSTMCell(input_size, hidden_size + 2, proj_size=hidden_size),
            UnitaryCell(input_size, hidden_size),
            DeepOutputCell(tt.cells.GRUCell(input_size, 4), hidden_size),
            GraphCell(architecture("td"), input_size, hidden_size, cell="lstm"),
            GraphCell(architecture("skip", 3), input_size, hidden_size),
        ]


def request(cell, time=5, batch=3):
    x = torch.randn(time, batch, cell.input_size, dtype=torch.float64)
    where = {"dtype": torch.float64, "device": torch.device("cpu")}
    return Request(cell.double(), x, cell.initial_state(batch, **where))


REFUSED = {
    "sorts": (lambda c, x, h: (x + h).sort(-1).values, "aten.sort.default"),
    "branches": (lambda c, x, h: x * float(c.scale) + h, "in Python"),
    "over the batch": (lambda c, x, h: x - h.mean(0), "over sequences"),
    "at random": (lambda c, x, h: x + h * torch.rand_like(h), "random numbers"),
    "cut off": (lambda c, x, h: torch.tanh(x + h.detach()), "aten.detach"),
    "in place": (lambda c, x, h: h.add_(x), "writes into a given tensor"),
    "two of it": (lambda c, x, h: x + h @ (h.T @ h), "sequences"),
    "no gradient": (lambda c, x, h: hidden_from_gradients(x) + h, "gives other results"),
    "in double": (lambda c, x, h: (x + h).float().double(), "float32"),
    "no backward": (lambda c, x, h: (x + h).tanh().mul_(2), "when it was differentiated"),
}


def hidden_from_gradients(x):
    with torch.no_grad():
        return x * 2


@needs_compiler
@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_compiled_is_refused_by_name(name) -> None:
    function, said = REFUSED[name]
    refusal = NativeEngine().prepare(request(Written(2, 4, function)))
    assert isinstance(refusal, Refusal)
    assert said in refusal.reason


EQUAL = {
    "maps in a row": lambda c, x, h: x + c.of_past(F.linear(h, c.of_past.weight)),
    "equal maxima of groups": lambda c, x, h: (
        h + torch.stack([x.relu(), h.relu(), 0 * h], 1).amax(1)
    ),
    "equal maxima of parts": lambda c, x, h: (
        h + torch.cat([x.relu(), h.relu()], 1).amax(1)[:, None]
    ),
    # whose widths add up to a number of sequences that the step is traced on
    "sum of widths": lambda c, x, h: F.linear(torch.cat([x, h[:, 1:]], 1), wide(c)) - h,
}


def wide(cell):
    return torch.cat([cell.of_past.weight, cell.of_past.weight[:, 1:]], 1)


@needs_compiler
@pytest.mark.parametrize("name", EQUAL)
def test_gradients(name) -> None:
    r = request(Written(3, 6, EQUAL[name]))
    leaves = [r.inputs.requires_grad_(), *r.cell.parameters()]
    found = []
    for engine in ("native", "eager"):
        outputs = run(r, engine).outputs
        loss = outputs.square().sum()
        gradients = torch.autograd.grad(loss, leaves, allow_unused=True, materialize_grads=True)
        found.append([outputs, *gradients])
    torch.testing.assert_close(*found)


@needs_compiler
def test_a_global_that_the_step_reads_is_followed(monkeypatch) -> None:
    cell = Written(2, 4, scaled)
    r = request(cell)
    for value in (1.0, 2.0):
        monkeypatch.setitem(globals(), "FACTOR", value)
        torch.testing.assert_close(run(r, "native").outputs, run(r, "eager").outputs)


FACTOR = 1.0


def scaled(cell, x, h):
    return torch.tanh(FACTOR * x + h)


@needs_compiler
def test_streams_and_choices() -> None:
    fast, slow = tt.cells.LSTMCell(5, 4), tt.cells.GRUCell(4, 3)
    layer = tt.Recurrent(HierarchicalCell(fast, slow, every=3), dtype=torch.float64)
    x = torch.randn(8, 3, 2, dtype=torch.float64, requires_grad=True)
    reset = torch.rand(8, 3) < 0.2
    results = []
    for engine in ("native", "eager"):
        layer.engine = engine
        outputs, state = layer(x, reset=reset)
        leaves = [x, *layer.parameters()]
        gradients = torch.autograd.grad(outputs.square().sum() + state.h.sum(), leaves)
        results.append([outputs, *gradients, state.steps])
    torch.testing.assert_close(*results)


@needs_compiler
@pytest.mark.parametrize("options", [{"checkpoint": 2}, {"memory_budget": 12_000}])
def test_checkpoints(options) -> None:
    r = request(LayerNormLSTMCell(2, 4), time=9)
    leaves = list(r.cell.parameters())
    expected = torch.autograd.grad(run(r, "eager").outputs.square().sum(), leaves)
    with engine_options(**options):
        r = Request(r.cell, r.inputs, r.state)
        found = torch.autograd.grad(run(r, "native").outputs.square().sum(), leaves)
    torch.testing.assert_close(found, expected)


@needs_compiler
def test_second_derivatives() -> None:
    r = request(ChoGRUCell(2, 3), time=3, batch=2)
    leaves = [r.inputs.requires_grad_(), *r.cell.parameters()]

    def second(engine):
        outputs = run(r, engine).outputs
        first = torch.autograd.grad(outputs.square().sum(), leaves, create_graph=True)
        return torch.autograd.grad(torch.stack([g.square().sum() for g in first]).sum(), leaves)

    torch.testing.assert_close(second("native"), second("eager"))


@needs_compiler
def test_gradients_of_several_losses_at_once() -> None:
    r = request(ChoGRUCell(2, 3), time=3, batch=2)
    leaves = list(r.cell.parameters())
    above = torch.randn(4, 3, 2, 3, dtype=torch.float64)
    found = [
        torch.autograd.grad(run(r, e).outputs, leaves, above, is_grads_batched=True)
        for e in ("native", "eager")
    ]
    torch.testing.assert_close(*found)


@needs_compiler
def test_outputs_may_be_changed_before_the_backward_pass() -> None:
    r = request(ChoGRUCell(2, 3))
    leaves = list(r.cell.parameters())
    outputs = run(r, "native").outputs
    expected = torch.autograd.grad(outputs.sum(), leaves, retain_graph=True)
    with torch.no_grad():
        outputs.zero_()
    torch.testing.assert_close(torch.autograd.grad(outputs.sum(), leaves), expected)


@needs_compiler
def test_several_threads() -> None:
    before = torch.get_num_threads()
    r = request(LayerNormLSTMCell(2, 20), time=40, batch=150)
    leaves = list(r.cell.parameters())
    expected = torch.autograd.grad(run(r, "eager").outputs.square().sum(), leaves)
    try:
        torch.set_num_threads(3)
        found = torch.autograd.grad(run(r, "native").outputs.square().sum(), leaves)
    finally:
        torch.set_num_threads(before)
    torch.testing.assert_close(found, expected)
