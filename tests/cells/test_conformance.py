import pytest
import torch
from cells import (
    references,
    test_gated_cells,
    test_graph_cell,
    test_plain_cells,
    test_wired_cells,
)
from cells.samples import MinimalGRU, StreamedCell

import throughtime as tt
from throughtime.cells import (
    ChoGRUCell,
    CoupledLSTMCell,
    ElmanCell,
    GRUCell,
    LSTM1997Cell,
    LSTMCell,
    ProjectedLSTMCell,
    SLSTMCell,
)
from throughtime.core.state import state_type
from throughtime.testing import CellConformance


class TestElmanTanh(CellConformance):
    def make_cell(self, input_size, hidden_size):
        return ElmanCell(input_size, hidden_size)

    def reference(self, parameters, x, state):
        return references.elman(parameters, x, state, torch.tanh, (1,))


class TestElmanRelu(CellConformance):
    def make_cell(self, input_size, hidden_size):
        return ElmanCell(input_size, hidden_size, nonlinearity="relu")

    def reference(self, parameters, x, state):
        return references.elman(parameters, x, state, lambda a: a.clamp(min=0), (1,))


class TestElmanIdentity(CellConformance):
    def make_cell(self, input_size, hidden_size):
        return ElmanCell(input_size, hidden_size, nonlinearity="identity")

    def reference(self, parameters, x, state):
        return references.elman(parameters, x, state, lambda a: a, (1,))


class TestElmanSkip(CellConformance):
    def make_cell(self, input_size, hidden_size):
        return ElmanCell(input_size, hidden_size, lags=(1, 4))

    def reference(self, parameters, x, state):
        return references.elman(parameters, x, state, torch.tanh, (1, 4))


class TestElmanNarx(CellConformance):
    def make_cell(self, input_size, hidden_size):
        return ElmanCell(input_size, hidden_size, lags=(2, 3, 5), bias=False)

    def reference(self, parameters, x, state):
        return references.elman(parameters, x, state, torch.tanh, (2, 3, 5))


class TestLSTM(CellConformance):
    def make_cell(self, input_size, hidden_size):
        return LSTMCell(input_size, hidden_size)

    def reference(self, parameters, x, state):
        return references.lstm(parameters, x, state)


class TestLSTMLags(CellConformance):
    def make_cell(self, input_size, hidden_size):
        return LSTMCell(input_size, hidden_size, lags=(1, 3))

    def reference(self, parameters, x, state):
        return references.lstm(parameters, x, state, 3)


class TestLSTMPeepholes(CellConformance):
    def make_cell(self, input_size, hidden_size):
        return LSTMCell(input_size, hidden_size, peepholes=True, bias=False)

    def reference(self, parameters, x, state):
        return references.lstm(parameters, x, state)


class TestProjectedLSTM(CellConformance):
    def make_cell(self, input_size, hidden_size):
        return ProjectedLSTMCell(input_size, hidden_size, proj_size=hidden_size - 1)

    def reference(self, parameters, x, state):
        return references.lstm(parameters, x, state)


class TestCoupledLSTM(CellConformance):
    def make_cell(self, input_size, hidden_size):
        return CoupledLSTMCell(input_size, hidden_size)

    def reference(self, parameters, x, state):
        return references.coupled_lstm(parameters, x, state)


class TestCoupledLSTMPeepholes(CellConformance):
    def make_cell(self, input_size, hidden_size):
        return CoupledLSTMCell(input_size, hidden_size, peepholes=True)

    def reference(self, parameters, x, state):
        return references.coupled_lstm(parameters, x, state)


class TestLSTM1997(CellConformance):
    def make_cell(self, input_size, hidden_size):
        return LSTM1997Cell(input_size, hidden_size)

    def reference(self, parameters, x, state):
        return references.lstm_1997(parameters, x, state)


class TestSLSTM(CellConformance):
    def make_cell(self, input_size, hidden_size):
        return SLSTMCell(input_size, hidden_size)

    def reference(self, parameters, x, state):
        return references.slstm(parameters, x, state, 1)


class TestSLSTMWithHeads(CellConformance):
    def make_cell(self, input_size, hidden_size):
        return SLSTMCell(input_size, 2 * hidden_size, heads=hidden_size)

    def reference(self, parameters, x, state):
        return references.slstm(parameters, x, state, state.h.shape[1] // 2)


class TestGRU(CellConformance):
    def make_cell(self, input_size, hidden_size):
        return GRUCell(input_size, hidden_size)

    def reference(self, parameters, x, state):
        return references.gru(parameters, x, state)


class TestChoGRU(CellConformance):
    def make_cell(self, input_size, hidden_size):
        return ChoGRUCell(input_size, hidden_size)

    def reference(self, parameters, x, state):
        return references.cho_gru(parameters, x, state)


class TestChoGRUWithoutBias(CellConformance):
    def make_cell(self, input_size, hidden_size):
        return ChoGRUCell(input_size, hidden_size, bias=False)

    def reference(self, parameters, x, state):
        return references.cho_gru(parameters, x, state)


class TestStacked(CellConformance):
    def make_cell(self, input_size, hidden_size):
        return tt.wiring.StackedCell(
            [LSTMCell(input_size, hidden_size), GRUCell(hidden_size, hidden_size + 1)]
        )

    def reference(self, parameters, x, state):
        def of(k):
            prefix = f"stack.{k}."
            return {n[len(prefix) :]: p for n, p in parameters.items() if n.startswith(prefix)}

        middle, below = references.lstm(of(0), x, state.layers[0])
        outputs, above = references.gru(of(1), middle, state.layers[1])
        return outputs, state_type("h", "layers")(above.h, (below, above))


class TestUserCellWithStreams(CellConformance):
    """Two memories, lags, unit parameters and streams at once."""

    def make_cell(self, input_size, hidden_size):
        return StreamedCell(input_size, hidden_size)

    def reference(self, parameters, x, state):
        p, (h, slow, fast, past, steps) = parameters, state
        hidden = h.shape[1]
        history, outputs = [h, *past], []
        for t, x_t in enumerate(x):
            a = references.linear(x_t, p["weight_ih"], p["bias_ih"])
            b = references.linear(history[0], p["weight_hh"], p["bias_hh"])
            b = b + references.linear(history[2], p["weight_hh_lag3"], None)
            if t % 2 == 0:
                first = references.gate(a, 0, hidden) * references.gate(b, 0, hidden)
                slow = torch.tanh(p["alpha"] * first)
            second = references.gate(a, 1, hidden) + references.gate(b, 1, hidden)
            fast = fast * references.sigmoid(p["beta"][0]) + p["beta"][1] * second
            h = 0.25 * history[0] + 0.75 * torch.tanh(slow + fast)
            history = [h, *history[:-1]]
            outputs.append(h)
        end = type(state)(h, slow, fast, tuple(history[1:]), steps + len(x))
        return torch.stack(outputs), end


class TestUserCellWithoutRecurrentMatrix(CellConformance):
    def make_cell(self, input_size, hidden_size):
        return MinimalGRU(input_size, hidden_size)

    def reference(self, parameters, x, state):
        (h,) = state
        hidden, outputs = h.shape[1], []
        for x_t in x:
            a = references.linear(x_t, parameters["weight_ih"], parameters["bias_ih"])
            z = references.sigmoid(references.gate(a, 0, hidden))
            h = (1 - z) * h + z * references.gate(a, 1, hidden)
            outputs.append(h)
        return torch.stack(outputs), type(state)(h)


def test_every_public_cell_has_a_suite():
    others = (test_gated_cells, test_graph_cell, test_plain_cells, test_wired_cells)
    modules = (globals(), *map(vars, others))
    found = [value for module in modules for value in module.values() if isinstance(value, type)]
    suites = [s for s in found if issubclass(s, CellConformance) and s is not CellConformance]
    covered = {type(suite().make_cell(2, 3)) for suite in suites}
    public = [
        cell
        for module in (tt.cells, tt.wiring)
        for cell in (getattr(module, name) for name in module.__all__)
        if isinstance(cell, type) and issubclass(cell, tt.Cell)
    ]
    assert public
    assert not [cell.__name__ for cell in public if cell not in covered]


@pytest.mark.parametrize("cell", [ElmanCell, LSTMCell, GRUCell, ChoGRUCell, CoupledLSTMCell])
def test_sizes_below_one_are_refused(cell):
    with pytest.raises(tt.errors.ConfigurationError, match="hidden_size: got 0, expected a whole"):
        cell(3, 0)
    with pytest.raises(tt.errors.ConfigurationError, match="input_size: got -1, expected a whole"):
        cell(-1, 3)


def test_heads_that_do_not_divide_the_units_are_refused():
    with pytest.raises(tt.errors.ConfigurationError, match="heads: got 3, expected a divisor of 8"):
        SLSTMCell(2, 8, heads=3)
    with pytest.raises(tt.errors.ConfigurationError, match="heads: got 0"):
        SLSTMCell(2, 8, heads=0)


def test_each_head_is_initialised_by_itself():
    cell = SLSTMCell(2, 8, heads=2)
    tt.initializers.orthogonal()(cell)
    for block in cell.weight_hh.view(4, 2, 4, 4).flatten(0, 1):
        torch.testing.assert_close(block @ block.T, torch.eye(4))
    dense = cell.recurrent_matrix(1).view(4, 8, 8)
    assert not dense[:, :4, 4:].any()
    assert not dense[:, 4:, :4].any()
    assert torch.equal(dense[2, 4:, 4:], cell.weight_hh.view(4, 2, 4, 4)[2, 1])


@torch.no_grad()
def test_exponents_far_from_zero_leave_the_slstm_finite():
    """Gates of +-1,000, of which the ratio c / n is an average of tanh(z) all the same."""
    cell = SLSTMCell(1, 2).double()
    for size in (1e3, -1e3):
        cell.bias_ih.copy_(torch.tensor([size] * 2 + [-size] * 2 + [3.0] * 4))
        layer = tt.Recurrent(cell, engine="eager")
        h = layer(torch.zeros(6, 1, 1, dtype=torch.float64))[0]
        assert bool(h.isfinite().all())
        assert bool((h > 0.9).all())


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("lags", [(0,), (2, 1), (1, 1), (1.5,), (-3,)])
def test_bad_lags_are_refused(lags):
    with pytest.raises(tt.errors.ConfigurationError, match="positive whole numbers in increasing"):
        ElmanCell(2, 3, lags=lags)


@pytest.mark.usefixtures("unchecked")
def test_unknown_nonlinearity_is_refused_with_a_hint():
    with pytest.raises(tt.errors.UnknownNameError, match="Did you mean 'tanh'"):
        ElmanCell(2, 3, nonlinearity="tahn")


def test_projection_as_wide_as_the_cell_is_refused():
    with pytest.raises(tt.errors.ConfigurationError, match="proj_size: got 5, expected less than"):
        ProjectedLSTMCell(2, 5, proj_size=5)


def test_lags_read_zeros_before_the_start_and_nothing_across_a_reset():
    """With an identity nonlinearity and these weights the network is a sum done by hand."""
    cell = ElmanCell(1, 1, nonlinearity="identity", lags=(3,), bias=False).double()
    layer = tt.Recurrent(cell, engine="eager")
    with torch.no_grad():
        layer.weight_ih_l0.fill_(1.0)
        layer.weight_hh_lag3_l0.fill_(10.0)
    x = torch.arange(1.0, 8.0, dtype=torch.float64)[:, None]
    # h_t = x_t + 10 h_{t-3}
    assert layer(x)[0].flatten().tolist() == [1, 2, 3, 14, 25, 36, 147]
    reset = torch.tensor([False, False, False, False, True, False, False])
    assert layer(x, reset=reset)[0].flatten().tolist() == [1, 2, 3, 14, 5, 6, 7]
