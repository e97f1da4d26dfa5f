"""What is read from a step is what was declared, or known by hand."""

import pytest
import torch
from torch import nn

import throughtime as tt
from throughtime.cells import ElmanCell, UnitaryCell
from throughtime.core.errors import ConfigurationError
from throughtime.instruments import architecture_of, complexity
from throughtime.wiring import Architecture, DeepTransitionCell, GraphCell, StackedCell, ZoneoutCell
from throughtime.wiring import architecture as named
from throughtime.wiring import complexity as declared

NAMES = ("sh", "st", "bu", "td", "skip", "variant-1", "variant-2", "variant-3", "variant-4")


def measures(found):
    return found.recurrent_depth, found.feedforward_depth, found.skip_coefficient


@pytest.mark.parametrize("kind", ["tanh", "lstm", "gru"])
@pytest.mark.parametrize("name", NAMES)
def test_every_named_architecture_is_read_as_declared(name: str, kind: str) -> None:
    for lag in (2, 5):
        graph = named(name, lag)
        layer = tt.Recurrent(GraphCell(graph, 2, 3, cell=kind))
        assert measures(complexity(layer)) == measures(declared(graph))


def test_an_architecture_of_ones_own_is_read_as_declared() -> None:
    graph = Architecture(
        [
            *[("input", "a"), ("a", "a", 2), ("a", "b"), ("b", "b", 3), ("b", "c", 1)],
            *[("c", "c", 1), ("c", "a", 4), ("a", "c"), ("c", "output")],
        ]
    )
    layer = tt.Recurrent(GraphCell(graph, 2, 3, cell="tanh"))
    assert measures(complexity(layer)) == measures(declared(graph))


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        (nn.RNN(2, 3, num_layers=3), (1, 4, 1)),
        (nn.LSTM(2, 3, num_layers=2), (1, 3, 1)),
        (nn.GRUCell(2, 3), (1, 2, 1)),
        (tt.RNN(2, 3, lags=(1, 7)), (1, 2, 7)),
        (tt.Recurrent(ZoneoutCell(tt.cells.LSTMCell(2, 3))), (1, 2, 1)),
        (tt.Recurrent(DeepTransitionCell(2, 3, depth=2)), (3, 4, pytest.approx(1 / 3))),
        (
            tt.Recurrent(StackedCell([ElmanCell(2, 3), ElmanCell(3, 3)], connections="residual")),
            (1, 3, 1),
        ),
    ],
    ids=["rnn", "lstm", "gru cell", "skip", "zoneout", "deep transition", "residual"],
)
def test_layers_by_hand(layer, expected) -> None:
    assert measures(complexity(layer)) == expected


def test_the_graph_that_is_read() -> None:
    found = architecture_of(nn.Sequential(tt.RNN(2, 3, lags=(1, 3))))
    assert {str(edge) for edge in found.edges} == {
        "input -> h",
        "h -> h (lag 1)",
        "h -> h (lag 3)",
        "h -> output",
    }


def test_the_layer_is_left_as_it_is() -> None:
    layer = nn.GRU(2, 3)
    before = {name: p.clone() for name, p in layer.named_parameters()}
    complexity(layer)
    assert all(p.grad is None and torch.equal(p, before[n]) for n, p in layer.named_parameters())


class Squared(ElmanCell.__base__):
    """A state that multiplies another by a matrix product."""

    gates = ("hidden",)

    def pointwise(self, x, u, state):
        return torch.tanh(x[0] + state.h @ (state.h.T @ u[0]))


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (nn.LSTM(2, 3, bidirectional=True), "bidirectional"),
        (tt.Recurrent(UnitaryCell(2, 3, by="fft")), "got the operation"),
        (tt.Recurrent(Squared(2, 3)), "a product of two states"),
        (tt.Recurrent(tt.cells.IndRNNCell(2, 3)), "no cycle"),
    ],
)
def test_what_cannot_be_read_is_refused(layer, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        complexity(layer)
