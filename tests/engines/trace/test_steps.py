"""The graph of a recorded step: which nodes each operation has, and which are refused by name."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from throughtime.core.cell import Cell
from throughtime.core.state import zero_state
from throughtime.engines.trace.program import UntraceableError
from throughtime.engines.trace.steps.lowering import lower
from throughtime.engines.trace.steps.tracing import trace_step

WIDTH = 6


class Written(Cell):
    """A cell whose step is a function of itself, the input and the past, all of one width."""

    def __init__(self, function):
        super().__init__()
        self.input_size = self.hidden_size = self.output_size = WIDTH
        self.function = function
        self.matrix = nn.Parameter(torch.rand(WIDTH, WIDTH, dtype=torch.float64))
        self.gain = nn.Parameter(torch.rand(WIDTH, dtype=torch.float64))

    def initial_state(self, batch_size, *, dtype, device):
        return zero_state(batch_size, dtype=dtype, device=device, h=WIDTH)

    def project(self, x):
        return x

    def step(self, projected, state):
        h = self.function(self, projected, state.h)
        return h, type(state)(h)


def graph_of(function):
    trace = trace_step(Written(function), torch.float64)
    return lower(trace.vectors, [trace.output])


def operations(function) -> list[str]:
    """Return the operations of a step's graph in order, products and reductions included."""
    graph = graph_of(function).graph
    found: list[str] = []
    for position, node in enumerate(graph.nodes):
        leaf = graph.leaves.get(position)
        if leaf is None:
            found += [node.operation] if node.constant is None else []
        elif leaf.source == "product":
            transposed = graph.products[leaf.number].transposed
            found.append("transposed product" if transposed else "product")
        elif leaf.source == "reduction":
            found.append(graph.reductions[leaf.number].operation)
    return found


@pytest.mark.parametrize("name", ["tanh", "sigmoid", "exp", "sin", "sqrt", "abs", "erf", "log1p"])
def test_a_function_is_one_node(name) -> None:
    assert operations(lambda c, x, h: getattr(torch, name)(h)) == [name]


@pytest.mark.parametrize("name", ["add", "sub", "mul", "div", "maximum", "minimum"])
def test_a_function_of_two_is_one_node(name) -> None:
    assert operations(lambda c, x, h: getattr(torch, name)(x, h)) == [name]


NODES = {
    "relu": (lambda c, x, h: h.relu(), ["le", "where"]),
    "where": (lambda c, x, h: torch.where(x > h, x, h), ["gt", "where"]),
    "in place": (lambda c, x, h: (x + h).tanh_(), ["add", "tanh"]),
    "linear": (lambda c, x, h: F.linear(h, c.matrix), ["product"]),
    "by columns": (lambda c, x, h: h @ c.matrix, ["product"]),
    "with a bias": (lambda c, x, h: F.linear(h, c.matrix, c.gain), ["product", "add"]),
    "einsum": (lambda c, x, h: torch.einsum("bi,ij->bj", h, c.matrix), ["product"]),
    "sum": (lambda c, x, h: h.sum(-1, keepdim=True) * x, ["sum", "mul"]),
    "mean": (lambda c, x, h: h.mean(1)[:, None] + x, ["sum", "mul", "add"]),
    "maximum": (lambda c, x, h: h.amax(-1, True) + x, ["max", "add"]),
    "minimum": (lambda c, x, h: h.amin(-1, True) + x, ["neg", "max", "neg", "sub"]),
    "softmax": (lambda c, x, h: h.softmax(-1), ["peak", "sub", "exp", "sum", "div"]),
    "on the parameter alone": (lambda c, x, h: h * c.gain.exp().cumsum(0), ["mul"]),
    "the same twice": (lambda c, x, h: h.tanh() * h.tanh(), ["tanh", "mul"]),
}


@pytest.mark.parametrize("name", NODES)
def test_nodes(name) -> None:
    function, expected = NODES[name]
    assert operations(function) == expected


VIEWS = {
    "halves exchanged": lambda c, x, h: torch.cat(h.chunk(2, -1)[::-1], -1),
    "rolled": lambda c, x, h: h.roll(2, 1),
    "repeated": lambda c, x, h: h.chunk(2, 1)[0].repeat(1, 2),
    "reversed": lambda c, x, h: h.flip(-1),
    "stacked": lambda c, x, h: torch.stack([x, h], 1).flatten(1)[:, 3:9],
    "transposed twice": lambda c, x, h: h.view(-1, 2, 3).transpose(1, 2).reshape(-1, 6),
    "split": lambda c, x, h: torch.cat([h.split([1, 5], 1)[1], x[:, :1]], 1),
}


@pytest.mark.parametrize("name", VIEWS)
def test_views_compute_nothing_and_lead_to_the_right_places(name) -> None:
    lowered = graph_of(VIEWS[name])
    x, h = torch.arange(6.0)[None], torch.arange(10.0, 16.0)[None]
    found: list[float] = []
    for piece in lowered.results[0]:
        leaf = lowered.graph.leaves[piece.position]
        given = x if leaf.source == "input" else h
        found += given[0, leaf.offset : leaf.offset + leaf.width].tolist()
    assert found == VIEWS[name](None, x, h)[0].tolist()


REFUSED = {
    "sorts": (lambda c, x, h: h.sort(1).values, "aten.sort"),
    "sums up": (lambda c, x, h: h.cumsum(1), "aten.cumsum"),
    "chooses": (lambda c, x, h: h.topk(6).values, "aten.topk"),
    "cuts off": (lambda c, x, h: h.detach() + x, "aten.detach"),
    "over sequences": (lambda c, x, h: h - h.sum(0), "over sequences"),
    "over all": (lambda c, x, h: h - h.mean(), "over sequences"),
    "a norm": (lambda c, x, h: x + h.norm(p=3, dim=1)[:, None], "norm of order 3"),
    "at random": (lambda c, x, h: torch.bernoulli(h.sigmoid()), "random numbers"),
    "in Python": (lambda c, x, h: h if c.gain.sum() > 0 else x, "in Python"),
    "another dtype": (lambda c, x, h: h.float().double(), "float32"),
    "two that depend": (
        lambda c, x, h: (h[:, :, None] @ x[:, None, :])[:, 0],
        "stacks of matrices",
    ),
    "sequences merged": (lambda c, x, h: h.reshape(-1, 2).reshape(-1, 6), "merges"),
    "sequences repeated": (lambda c, x, h: h.repeat(2, 1), "repeats sequences"),
    "sequences reversed": (lambda c, x, h: h.flip(0), "sequences"),
    "one sequence": (lambda c, x, h: h[:1] + x, "sequences"),
    "rolled over all": (lambda c, x, h: h.roll(1), "rolls over all axes"),
    "groups": (lambda c, x, h: h.view(-1, 2, 3).softmax(2).flatten(1), "softmax over a short axis"),
    "factors": (lambda c, x, h: torch.addmm(c.gain, h, c.matrix, alpha=2), "addmm with factors"),
    "writes": (lambda c, x, h: h.mul_(x), "writes into a given tensor"),
    "another width": (lambda c, x, h: h[:, :5], "another shape"),
}


@pytest.mark.usefixtures("unchecked")  # some return other shapes
@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_graph_is_refused_by_name(name) -> None:
    function, said = REFUSED[name]
    with pytest.raises(UntraceableError, match=said):
        trace_step(Written(function), torch.float64)
