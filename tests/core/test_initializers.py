import math

import pytest
import torch

import throughtime as tt
from throughtime import initializers
from throughtime.cells import CoupledLSTMCell, ElmanCell, GRUCell, LSTM1997Cell, LSTMCell


def blocks(cell, name="weight_hh"):
    parameter = dict(cell.named_parameters())[name].detach()
    return dict(zip(cell.gate_names, parameter.chunk(len(cell.gate_names)), strict=True))


def test_orthogonal_makes_each_gate_s_matrix_orthogonal():
    cell = LSTMCell(3, 16).double()
    initializers.orthogonal(1.5)(cell)
    for block in blocks(cell).values():
        torch.testing.assert_close(block @ block.T, 2.25 * torch.eye(16, dtype=torch.float64))


def test_identity_on_one_gate_leaves_the_others():
    cell = LSTMCell(3, 6)
    before = {name: block.clone() for name, block in blocks(cell).items()}
    initializers.identity(0.5, gates=("cell",))(cell)
    for name, block in blocks(cell).items():
        torch.testing.assert_close(block, 0.5 * torch.eye(6) if name == "cell" else before[name])


@pytest.mark.parametrize("initializer", [initializers.identity(), initializers.orthogonal()])
def test_of_several_lags_the_longest_keeps_the_norm_of_the_past(initializer):
    """A state that has been the same for as long as the longest lag keeps its norm in one step."""
    cell = ElmanCell(3, 6, nonlinearity="identity", lags=(1, 2, 5), bias=False).double()
    initializer(cell)
    h = torch.randn(6, dtype=torch.float64)
    total = sum(cell.recurrent_matrix(lag) @ h for lag in cell.lags)
    torch.testing.assert_close(total.norm(), h.norm())


def test_spectral_radius_rescales_and_keeps_the_direction():
    cell = ElmanCell(3, 20).double()
    before = cell.weight_hh.detach().clone()
    initializers.spectral_radius(0.95)(cell)
    largest = torch.linalg.eigvals(cell.weight_hh.detach()).abs().max()
    assert math.isclose(float(largest), 0.95, rel_tol=1e-9)
    ratio = cell.weight_hh.detach() / before
    torch.testing.assert_close(ratio, torch.full_like(ratio, float(ratio[0, 0])))


def test_sparse_has_exactly_k_entries_a_row():
    cell = GRUCell(3, 40)
    initializers.sparse(15, std=2.0)(cell)
    assert ((cell.weight_hh != 0).sum(1) == 15).all()
    values = cell.weight_hh.detach()[cell.weight_hh != 0]
    assert 1.8 < float(values.std()) < 2.2
    small = ElmanCell(3, 4)
    initializers.sparse(15)(small)
    assert (small.weight_hh != 0).all()


def test_uniform_and_normal():
    cell = ElmanCell(50, 100)
    initializers.uniform(0.3, parameter="weight_ih")(cell)
    assert 0.29 < float(cell.weight_ih.detach().max()) <= 0.3
    initializers.uniform(parameter="weight_ih")(cell)
    assert 0.09 < float(cell.weight_ih.detach().max()) <= 0.1
    initializers.normal(0.5)(cell)
    assert abs(float(cell.weight_ih.detach().std()) - 0.5) < 0.02


@pytest.mark.parametrize(
    ("cell", "gate"), [(LSTMCell, "forget"), (CoupledLSTMCell, "forget"), (GRUCell, "update")]
)
def test_forget_bias_is_the_sum_of_both_biases(cell, gate):
    made = cell(3, 5)
    initializers.forget_bias(2.0)(made)
    total = blocks(made, "bias_ih")[gate] + blocks(made, "bias_hh")[gate]
    assert torch.equal(total, torch.full((5,), 2.0))


def test_a_large_remember_bias_makes_every_cell_keep_its_memory():
    """The sign convention of each cell: remember gates open, the memory stays."""
    for kind in (LSTMCell, CoupledLSTMCell, GRUCell, tt.cells.ChoGRUCell):
        cell = kind(2, 3).double()
        initializers.forget_bias(40.0)(cell)
        for gate in cell.write_gates:
            initializers.gate_bias(gate, -40.0)(cell)
        state = cell.initial_state(2, dtype=torch.float64, device=torch.device("cpu"))
        state = type(state)(*(torch.randn_like(s) for s in state))
        _, after = cell.step(cell.project(torch.randn(2, 2, dtype=torch.float64)), state)
        kept = "c" if "c" in state._fields else "h"
        torch.testing.assert_close(getattr(after, kept), getattr(state, kept))


def test_chrono_spreads_time_constants_up_to_the_longest():
    cell = LSTMCell(3, 4000)
    initializers.chrono(100)(cell)
    bias = blocks(cell, "bias_ih")
    assert torch.equal(bias["input"], -bias["forget"])
    drawn = bias["forget"].exp()
    assert 1 <= float(drawn.min()) < 2
    assert 98 < float(drawn.max()) <= 99.001
    assert abs(float(drawn.mean()) - 50) < 2  # U[1, 99]
    gru = GRUCell(3, 4)
    initializers.chrono(100)(gru)
    assert (blocks(gru, "bias_ih")["update"] >= 0).all()


def test_irnn():
    cell = ElmanCell(3, 50, nonlinearity="relu")
    initializers.irnn()(cell)
    assert torch.equal(cell.weight_hh, torch.eye(50))
    assert not cell.bias_ih.any()
    assert not cell.bias_hh.any()
    assert 5e-4 < float(cell.weight_ih.detach().std()) < 2e-3


@pytest.mark.parametrize(
    ("initializer", "cell", "words"),
    [
        (initializers.forget_bias(), ElmanCell, "forget_bias of ElmanCell: got a cell without"),
        (initializers.chrono(10), LSTM1997Cell, "chrono of LSTM1997Cell"),
        (initializers.orthogonal(gates=("forgot",)), LSTMCell, "Did you mean 'forget'"),
        (initializers.orthogonal(parameter="weight_h"), LSTMCell, "unknown parameter of LSTMCell"),
        (initializers.identity(parameter="weight_ih"), LSTMCell, r"shape \(5, 3\), expected a sq"),
    ],
)
def test_what_does_not_fit_is_refused(initializer, cell, words):
    with pytest.raises(tt.errors.ConfigurationError, match=words):
        initializer(cell(3, 5))


def test_chrono_needs_a_dependency():
    with pytest.raises(tt.errors.ConfigurationError, match="longest=2, expected at least 3"):
        initializers.chrono(2)


def test_nilpotent_matrices_cannot_be_rescaled():
    cell = ElmanCell(2, 3)
    with torch.no_grad():
        cell.weight_hh.zero_()
    with pytest.raises(tt.errors.ConfigurationError, match="nilpotent"):
        initializers.spectral_radius()(cell)


def test_layers_apply_them_in_order_to_every_cell():
    layer = tt.LSTM(
        3,
        4,
        num_layers=2,
        bidirectional=True,
        initializers=[initializers.forget_bias(1.0), initializers.identity(gates=("cell",))],
    )
    for suffix in ("l0", "l0_reverse", "l1", "l1_reverse"):
        assert torch.equal(getattr(layer, f"weight_hh_{suffix}")[8:12], torch.eye(4))
        assert torch.equal(getattr(layer, f"bias_ih_{suffix}")[4:8], torch.ones(4))
