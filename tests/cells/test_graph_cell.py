"""An architecture as a cell is its equations, written out by hand."""

import pytest
import torch
from cells.references import gate, linear, sigmoid

import throughtime as tt
from throughtime.cells import ElmanCell
from throughtime.core.state import state_type
from throughtime.testing import CellConformance
from throughtime.wiring import Architecture, GraphCell, architecture


class TestTopDown(CellConformance):
    """td of tanh units: h1 also reads h2 of a step ago."""

    def make_cell(self, input_size, hidden_size):
        return GraphCell(architecture("td"), input_size, hidden_size)

    def reference(self, parameters, x, state):
        p, outputs = parameters, []
        h1, h2 = (s.h for s in state.states)
        for x_t in x:
            a = linear(x_t, p["input_h1"], p["bias_h1"]) + linear(h2, p["weight_h1"], None)
            h1 = torch.tanh(a + linear(h1, p["own_h1"], None))
            a = linear(h1, p["weight_h2"], p["bias_h2"])
            h2 = torch.tanh(a + linear(h2, p["own_h2"], None))
            outputs.append(h2)
        kind = type(state.states[0])
        end = state_type("h", "states", "past")(h2, (kind(h1), kind(h2)), state.past)
        return torch.stack(outputs), end


class TestLongSkipsOfLSTM(CellConformance):
    """variant-3 with lag 2 of LSTM units: each has a memory of its own."""

    def make_cell(self, input_size, hidden_size):
        return GraphCell(architecture("variant-3", 2), input_size, hidden_size, cell="lstm")

    def reference(self, parameters, x, state):
        p, outputs = parameters, []
        (h1, c1), (h2, c2) = state.states
        (older,) = state.past[2]  # of h2, two steps ago
        n = h1.shape[1]

        def unit(a, c):
            i, f, g, o = (gate(a, k, n) for k in range(4))
            c = sigmoid(f) * c + sigmoid(i) * torch.tanh(g)
            return sigmoid(o) * torch.tanh(c), c

        for x_t in x:
            a = linear(x_t, p["input_h1"], p["bias_h1"]) + linear(older, p["weight_h1"], None)
            h1, c1 = unit(a + linear(h1, p["own_h1"], None), c1)
            older = h2
            a = linear(h1, p["weight_h2"], p["bias_h2"])
            h2, c2 = unit(a + linear(h2, p["own_h2"], None), c2)
            outputs.append(h2)
        kind = type(state.states[0])
        states = (kind(h1, c1), kind(h2, c2))
        return torch.stack(outputs), type(state)(h2, states, ((), (), (older,)))


ODD = Architecture(
    [
        ("input", "a", 2),
        ("a", "a", 3),
        ("input", "b"),
        ("a", "b"),
        ("b", "a", 1),
        ("a", "output", 1),
        ("b", "output"),
        ("input", "output"),
    ]
)


class TestLagsEverywhere(CellConformance):
    """Inputs of two steps ago, outputs of a step ago, the input itself passed on; GRU units."""

    def make_cell(self, input_size, hidden_size):
        return GraphCell(ODD, input_size, hidden_size, cell="gru")

    def reference(self, parameters, x, state):
        p, outputs = parameters, []
        a, b = (s.h for s in state.states)
        x1, x2 = state.past[0]
        a2, a3 = state.past[1]
        n = a.shape[1]

        def unit(x_part, u_part, h):
            r = sigmoid(gate(x_part, 0, n) + gate(u_part, 0, n))
            z = sigmoid(gate(x_part, 1, n) + gate(u_part, 1, n))
            new = torch.tanh(gate(x_part, 2, n) + r * gate(u_part, 2, n))
            return (1 - z) * new + z * h

        for x_t in x:
            before = a
            read = torch.cat([x2, b], 1)
            part = linear(read, p["weight_a"], p["bias_a"])
            a = unit(part, linear(a3, p["own_a"], None), a)
            a2, a3 = before, a2
            part = linear(x_t, p["input_b"], p["bias_b"]) + linear(a, p["weight_b"], None)
            b = unit(part, torch.zeros_like(part), b)
            outputs.append(torch.cat([before, b, x_t], 1))
            x1, x2 = x_t, x1
        kind = type(state.states[0])
        states = (kind(a), kind(b))
        return torch.stack(outputs), type(state)(outputs[-1], states, ((x1, x2), (a2, a3), ()))


def test_a_skip_is_the_lag_of_a_cell() -> None:
    graph = GraphCell(architecture("skip", 4), 2, 5)
    cell = ElmanCell(2, 5, lags=(1, 4))
    with torch.no_grad():
        graph.input_h.copy_(cell.weight_ih)
        graph.own_h.copy_(torch.cat([cell.weight_hh, cell.weight_hh_lag4], 1))
        graph.bias_h.copy_(cell.bias_ih + cell.bias_hh)
    x = torch.randn(9, 3, 2)
    torch.testing.assert_close(tt.Recurrent(graph)(x)[0], tt.Recurrent(cell)(x)[0])


def test_a_stack_is_a_stack() -> None:
    graph = GraphCell(architecture("st"), 2, 4, cell="lstm")
    assert graph.output_size == 4
    assert tt.Recurrent(graph)(torch.randn(5, 2, 2))[0].shape == (5, 2, 4)


@pytest.mark.usefixtures("unchecked")
def test_bad_options_are_refused() -> None:
    with pytest.raises(tt.errors.UnknownNameError, match="unknown kind of unit"):
        GraphCell(architecture("td"), 2, 3, cell="transformer")
    odd = Architecture([("input", "h 1"), ("h 1", "h 1", 1), ("h 1", "output")])
    with pytest.raises(tt.errors.ConfigurationError, match="expected an identifier"):
        GraphCell(odd, 2, 3)
