"""Cells and habits of users that the library's own cells do not have."""

import io

import pytest
import torch
from cells.samples import MinimalGRU, StreamedCell
from torch import nn

import throughtime as tt
from throughtime.core.sequence import packing, reverse_time
from throughtime.core.state import state_type

pytestmark = pytest.mark.without_compiler


class PlainCell(tt.Cell):
    """Two maps that share one weight, dropout, and a buffer that is not saved."""

    def __init__(self, input_size, hidden_size):
        super().__init__()
        self.input_size = input_size
        self.hidden_size = self.output_size = hidden_size
        self.w = nn.Linear(input_size, hidden_size)
        self.u = nn.Linear(hidden_size, hidden_size)
        self.v = nn.Linear(hidden_size, hidden_size)
        self.v.weight = self.u.weight
        self.drop = nn.Dropout(0.5)
        self.register_buffer("scale", torch.full((hidden_size,), 2.0), persistent=False)

    def initial_state(self, batch_size, *, dtype, device):
        return state_type("h")(
            torch.zeros(batch_size, self.hidden_size, dtype=dtype, device=device)
        )

    def project(self, x):
        return self.drop(self.w(x))

    def step(self, projected, state):
        h = (projected + self.u(state.h) + self.scale * self.v(state.h).relu()).tanh()
        return h, type(state)(h)


def test_tied_weights_and_shared_cells_compute_what_the_cell_computes():
    cell = PlainCell(2, 8).eval()
    layer = tt.Recurrent(cell).eval()
    x = torch.randn(5, 3, 2)
    state = cell.initial_state(3, dtype=torch.float32, device=torch.device("cpu"))
    expected = []
    for x_t in x:
        h, state = cell.step(cell.project(x_t), state)
        expected.append(h)
    torch.testing.assert_close(layer(x)[0], torch.stack(expected))
    assert sum(name.endswith("weight_l0") for name, _ in layer.named_parameters()) == 2
    shared = tt.cells.GRUCell(4, 4)
    stack = tt.wiring.StackedCell([shared, shared])
    torch.testing.assert_close(
        tt.Recurrent(stack)(torch.ones(5, 2, 4))[0],
        tt.Recurrent(shared)(tt.Recurrent(shared)(torch.ones(5, 2, 4))[0])[0],
    )


def test_modes_reach_modules_inside_cells():
    layer = tt.Recurrent(PlainCell, 2, 8)
    x = torch.randn(5, 3, 2)
    assert not torch.equal(layer(x)[0], layer(x)[0])
    layer.eval()
    assert torch.equal(layer(x)[0], layer(x)[0])


def test_buffers_are_saved_as_the_cell_says():
    layer = tt.Recurrent(PlainCell, 2, 8)
    assert "scale_l0" not in layer.state_dict()
    assert dict(layer.named_buffers())["scale_l0"] is layer.cells()[0].scale


def test_seeing_that_gates_are_added_changes_no_weight():
    class InPlace(tt.GatedCell):
        gates = 1

        def pointwise(self, x, u, state):
            return 0.9 * state.h + 0.1 * (x[0] + u[0]).tanh_()

    torch.manual_seed(0)
    layer = tt.Recurrent(InPlace, 1, 8)
    torch.manual_seed(0)
    assert torch.equal(layer.weight_ih_l0, InPlace(1, 8).weight_ih)
    layer(torch.randn(4, 2, 1))[0].sum().backward()


def test_a_cell_may_keep_a_gate_as_its_memory():
    class KeepsInput(tt.GatedCell):
        gates, memories = 1, ("previous",)

        def pointwise(self, x, u, state):
            return (x[0] + u[0] + state.previous).tanh(), x[0]

    assert not KeepsInput(2, 3).additive
    tt.Recurrent(KeepsInput, 2, 3)(torch.randn(4, 2, 2))


def test_streams_are_moved_to_the_device_of_the_layer():
    layer = tt.Recurrent(StreamedCell, 3, 4, device="meta")
    output, _ = layer(torch.zeros(5, 2, 3, device="meta"))
    assert output.device.type == "meta"


def test_initialisers_of_gates_need_no_recurrent_bias():
    class Remembers(MinimalGRU):
        remember_gates = ("update",)

    layer = tt.Recurrent(Remembers, 2, 3, initializers=[tt.initializers.forget_bias(1.0)])
    assert torch.equal(layer.bias_ih_l0[:3], torch.ones(3))


def test_states_are_loaded_without_trust():
    state = tt.LSTM(3, 4)(torch.zeros(5, 2, 3))[1]
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    assert torch.equal(torch.load(file, weights_only=True).c, state.c)


def test_another_default_device_changes_nothing():
    lengths, grid = torch.tensor([5, 2]), torch.randn(5, 2, 3)
    layer = tt.LSTM(3, 4, bidirectional=True, engine="eager")
    expected = layer(grid, lengths=[5, 2])[0]
    torch.set_default_device("meta")
    try:
        assert packing(lengths, grid.device).counts == [2, 2, 1, 1, 1]
        reverse_time(grid, lengths)
        assert torch.equal(layer(grid, lengths=[5, 2])[0], expected)
    finally:
        torch.set_default_device(None)


def test_resetting_a_parametrised_layer_is_refused():
    layer = tt.GRU(3, 4)
    nn.utils.parametrizations.weight_norm(layer, "weight_hh_l0")
    with pytest.raises(tt.errors.ConfigurationError, match="a parametrised weight"):
        layer.reset_parameters()


def test_repr_tells_what_differs_from_the_default():
    assert repr(tt.LSTM(3, 4, bias=False, proj_size=2)) == "LSTM(3, 4, proj_size=2, bias=False)"
    assert repr(tt.RNN(3, 4, nonlinearity="relu", lags=(1, 2))) == (
        "RNN(3, 4, nonlinearity='relu', lags=(1, 2))"
    )


@pytest.mark.parametrize("names", [("h",), ("past",), ("steps",), ("_a",), ("a b",), "c"])
def test_memories_have_names_of_their_own(names):
    class Bad(tt.GatedCell):
        gates, memories = 1, names

        def pointwise(self, x, u, state):
            return x[0], u[0]

    with pytest.raises(tt.errors.ConfigurationError, match="memories: got"):
        Bad(2, 3)


@pytest.mark.usefixtures("unchecked")
def test_no_engine_is_no_engine():
    with pytest.raises(tt.errors.UnknownNameError, match="unknown engine: got 'None'"):
        tt.GRU(3, 4, engine=None)


def test_explaining_draws_nothing():
    layer = tt.Recurrent(StreamedCell, 3, 4)
    before = torch.get_rng_state()
    layer.explain()
    assert torch.equal(torch.get_rng_state(), before)


def test_pointwise_returns_h_and_the_memories():
    class Forgets(tt.GatedCell):
        gates, memories = 1, ("c", "d")

        def pointwise(self, x, u, state):
            return x[0] + u[0], state.c

    with pytest.raises(tt.errors.ConfigurationError, match=r"got 2 results, expected \(h, c, d\)"):
        tt.Recurrent(Forgets, 2, 3)(torch.zeros(4, 1, 2))


@pytest.mark.parametrize("engine", ["auto", "eager"])
def test_an_optimizer_of_the_given_cell_trains_the_layer(engine):
    cell = tt.cells.LayerNormLSTMCell(3, 4)
    optimizer = torch.optim.SGD(cell.parameters(), 0.1)
    layer = tt.Recurrent(cell, engine=engine, initializers=[tt.initializers.forget_bias(3.0)])
    assert {id(p) for p in layer.parameters()} == {id(p) for p in cell.parameters()}
    x = torch.randn(5, 2, 3)
    before = layer(x)[0]
    before.square().mean().backward()
    optimizer.step()
    assert not torch.equal(layer(x)[0], before)


def test_a_layer_of_a_given_cell_is_reset_to_what_the_cell_was():
    cell = tt.cells.GRUCell(3, 4)
    start = {name: p.detach().clone() for name, p in cell.named_parameters()}
    layer = tt.Recurrent(cell)
    with torch.no_grad():
        cell.weight_ih.zero_()
    layer.reset_parameters()
    assert all(torch.equal(p, start[name]) for name, p in cell.named_parameters())


def test_the_representation_shows_the_cell():
    zoneout = tt.wiring.ZoneoutCell
    layers = [
        tt.Recurrent(tt.cells.ElmanCell, 3, 5, num_layers=2, lags=(1, 7)),
        tt.Recurrent(lambda i, h: zoneout(tt.cells.GRUCell(i, h)), 3, 5, bidirectional=True),
        tt.Recurrent(tt.cells.GRUCell(3, 4), engine="eager"),
    ]
    assert [repr(layer) for layer in layers] == [
        "Recurrent(ElmanCell, 3, 5, num_layers=2, lags=(1, 7))",
        "Recurrent(ZoneoutCell(GRUCell), 3, 5, bidirectional=True)",
        "Recurrent(GRUCell, 3, 4, engine='eager')",
    ]


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("lstm", r"got 'lstm', .*Write Recurrent\(throughtime\.cells\.LSTMCell, input_size"),
        ("RNN", r"Write Recurrent\(throughtime\.cells\.ElmanCell,"),
        ("qqq", r"The cells are classes of throughtime\.cells"),
        (nn.LSTMCell, r"got torch\..*LSTMCell, .*Write Recurrent\(throughtime\.cells\.LSTMCell,"),
        (nn.GRUCell(3, 5), r"Write Recurrent\(throughtime\.cells\.GRUCell,"),
        (nn.RNN, r"Write throughtime\.RNN\(input_size, hidden_size\), which is a layer"),
        (tt.LSTM, "LSTM is a layer: use it alone"),
        (nn.Linear(3, 5), r"Write a subclass of throughtime\.GatedCell"),
        (lambda i, h: nn.LSTMCell(i, h), "what the given function makes: got torch.*LSTMCell"),
        (None, "got NoneType, expected a class of cell"),
    ],
)
def test_what_is_no_cell(given, words):
    with pytest.raises(TypeError, match=words) as caught:
        tt.Recurrent(given, 3, 5)
    assert isinstance(caught.value, tt.errors.OptionTypeError)
