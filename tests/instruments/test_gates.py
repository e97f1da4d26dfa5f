import math

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

import throughtime as tt
from throughtime import errors
from throughtime.cells import ChoGRUCell, CoupledLSTMCell, LSTM1997Cell, LSTMCell
from throughtime.instruments import Dynamics, record
from throughtime.instruments.gates import gate_activity


def recorded(model, x, **options):
    return record(model, lambda: model(x, **options)[0].sum())


def sigmoid(a):
    return 1 / (1 + math.exp(-a))


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
@pytest.mark.parametrize("bias", [-3.0, 0.0, 2.0, 30.0])
def test_a_constant_gate_has_its_time_constant(kind, bias):
    """With weights of zero f is sigmoid(bias) at every step, so tau is -1 / log sigmoid(bias)."""
    model = getattr(nn, kind)(3, 4, dtype=torch.float64)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.bias_ih_l0[4:8] = bias  # forget, and update
    activity = gate_activity(recorded(model, torch.randn(7, 5, 3, dtype=torch.float64)))
    tau = 1 / math.log1p(math.exp(-bias))
    torch.testing.assert_close(activity.time_constants, torch.full((4,), tau).double())
    torch.testing.assert_close(activity.remembered, torch.full((4,), sigmoid(bias)).double())
    gate = activity.gates["forget" if kind == "LSTM" else "update"]
    f = sigmoid(bias)
    torch.testing.assert_close(gate.mean, torch.full((4,), f).double())
    torch.testing.assert_close(gate.slope, torch.full((4,), 4 * f * (1 - f)).double())
    assert gate.low.tolist() == [float(f < 0.05)] * 4
    assert gate.high.tolist() == [float(f > 0.95)] * 4
    lags = torch.tensor([tau * 0.99, tau * 1.01], dtype=torch.float64)
    assert activity.share_longer(lags).tolist() == [1, 0]
    # c_i and h_i carry over by the gate alone where nothing else has a weight
    torch.testing.assert_close(
        activity.carry["c" if kind == "LSTM" else "h"], torch.full((4,), f).double()
    )


def test_the_first_lstm_never_forgets():
    model = tt.Recurrent(LSTM1997Cell, 3, 4)
    activity = gate_activity(recorded(model, torch.randn(7, 5, 3)))
    assert activity.time_constants.tolist() == [math.inf] * 4
    assert activity.carry["c"].tolist() == [1.0] * 4
    assert activity.share_longer(torch.tensor([1e9])).tolist() == [1.0]


def gates_of_torch(cell, x, state):
    """Gates by name at one step, written out from the papers' equations."""
    W, U = cell.weight_ih, cell.weight_hh
    x, u = W @ x + cell.bias_ih, U @ state["h"] + cell.bias_hh
    n = cell.hidden_size
    part = [slice(k * n, (k + 1) * n) for k in range(4)]
    if "c" not in state:
        r, z = ((x + u)[p].sigmoid() for p in part[:2])
        inner = x[part[2]] + r * u[part[2]]
        if isinstance(cell, ChoGRUCell):
            b = cell.bias_hh[part[2]]
            inner = x[part[2]] + U[part[2]] @ (r * state["h"]) + b
        h = (1 - z) * inner.tanh() + z * state["h"]
        return {"reset": r, "update": z, "new": inner.tanh()}, {"h": h}, z
    values = {name: (x + u)[p] for name, p in zip(cell.gate_names, part, strict=False)}
    p = {k: getattr(cell, f"peephole_{k}", 0.0) for k in ("input", "forget", "output")}
    f = i = torch.ones(())
    for name in values.keys() & {"input", "forget"}:
        values[name] = (values[name] + p[name] * state["c"]).sigmoid()
    f, i = values.get("forget", f), values.get("input", 1 - values.get("forget", f))
    old = isinstance(cell, LSTM1997Cell)
    g = values["cell"] = 4 * values["cell"].sigmoid() - 2 if old else values["cell"].tanh()
    c = f * state["c"] + i * g
    o = values["output"] = (values["output"] + p["output"] * c).sigmoid()
    h = o * (2 * c.sigmoid() - 1 if old else c.tanh())
    return values, {"h": h, "c": c}, f


CELLS = {
    "lstm": lambda: LSTMCell(3, 4, dtype=torch.float64),
    "peepholes": lambda: LSTMCell(3, 4, peepholes=True, dtype=torch.float64),
    "coupled": lambda: CoupledLSTMCell(3, 4, peepholes=True, dtype=torch.float64),
    "1997": lambda: LSTM1997Cell(3, 4, dtype=torch.float64),
    "gru": lambda: tt.GRU(3, 4, dtype=torch.float64).cells()[0],
    "cho": lambda: ChoGRUCell(3, 4, dtype=torch.float64),
}


@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize("ragged", [False, True])
def test_equals_a_loop_over_steps_and_sequences(name, ragged):
    cell = CELLS[name]()
    with torch.no_grad():
        for parameter in cell.parameters():
            parameter.mul_(4)  # some gates saturate
    model = tt.Recurrent(cell)
    x = torch.randn(8, 3, 3, dtype=torch.float64)
    lengths = [8, 2, 5] if ragged else [8, 8, 8]
    if ragged:
        x[5:, 2] = math.nan  # padding is not read
    reset = torch.zeros(8, 3, dtype=torch.bool)
    reset[3, 0] = True
    recording = recorded(model, x, lengths=lengths, reset=reset)
    activity = gate_activity(recording)
    seen, forget = {}, []
    for b, length in enumerate(lengths):
        zeros = {k: torch.zeros(4, dtype=torch.float64) for k in recording.states._fields}
        state = zeros
        for t in range(length):
            with torch.no_grad():
                values, state, f = gates_of_torch(cell, x[t, b], zeros if reset[t, b] else state)
            forget.append(f.expand(4).double())
            for gate, value in values.items():
                seen.setdefault(gate, []).append(value)
    assert activity.steps == sum(lengths)
    assert set(activity.gates) == set(seen) == set(cell.gate_names)
    for gate, rows in seen.items():
        found, v = activity.gates[gate], torch.stack(rows)
        torch.testing.assert_close(found.mean, v.mean(0))
        if found.activation == "tanh":
            v = v / 2 if name == "1997" else v
            low, high, slope = v < -0.95, v > 0.95, 1 - v**2
        else:
            low, high, slope = v < 0.05, v > 0.95, 4 * v * (1 - v)
        torch.testing.assert_close(found.low, low.double().mean(0))
        torch.testing.assert_close(found.high, high.double().mean(0))
        torch.testing.assert_close(found.slope, slope.mean(0))
    mean_log = torch.stack(forget).log().mean(0)
    torch.testing.assert_close(activity.remembered, mean_log.exp())
    if name != "1997":
        torch.testing.assert_close(activity.time_constants, -1 / mean_log)


def test_projected_lstm_is_torch_s():
    model = nn.LSTM(3, 6, proj_size=2)
    activity = gate_activity(recorded(model, torch.randn(5, 4, 3)))
    wide = nn.LSTM(3, 6, proj_size=2, dtype=torch.float64)
    wide.load_state_dict(model.state_dict())
    assert activity.time_constants.shape == (6,)
    assert activity.dead.shape == (2,)
    assert set(activity.gates) == {"input", "forget", "cell", "output"}


def test_a_dead_relu_is_told_from_a_living_one():
    model = nn.RNN(2, 3, nonlinearity="relu")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.bias_ih_l0.copy_(torch.tensor([-1.0, 1.0, 0.0]))
        model.weight_ih_l0[2] = 1.0
    activity = gate_activity(recorded(model, torch.randn(6, 5, 2)))
    # the second is 1 at every step: its variance is zero
    assert activity.dead.tolist() == [True, True, False]
    assert activity.gates["hidden"].low[:2].tolist() == [1, 0]
    assert activity.gates["hidden"].slope[:2].tolist() == [0, 1]
    assert activity.saturated is None
    assert activity.remembered is None
    assert activity.share_longer(torch.ones(1)) is None
    assert activity.memory is None


def test_a_saturated_tanh_is_told_from_one_that_is_not():
    model = nn.RNN(1, 2, dtype=torch.float64)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.weight_ih_l0.copy_(torch.tensor([[5.0], [0.5]]))
    x = torch.tensor([1.0, -1.0, 1.0, 1.0]).double()[:, None, None]
    activity = gate_activity(recorded(model, x))
    gate = activity.gates["hidden"]
    assert activity.saturated.tolist() == [True, False]
    assert gate.low.tolist() == [0.25, 0]
    assert gate.high.tolist() == [0.75, 0]
    assert gate.saturated.tolist() == [1, 0]
    slope = [1 - math.tanh(5) ** 2, 1 - math.tanh(0.5) ** 2]
    torch.testing.assert_close(gate.slope, torch.tensor(slope).double())
    assert gate_activity(recorded(model, x), least_slope=0.9).saturated.tolist() == [True, True]


def test_a_full_memory_saturates_the_squashed_one():
    """Without input or forgetting, c grows by one a step, and tanh(c) is soon flat."""
    model = tt.Recurrent(LSTMCell, 1, 1, dtype=torch.float64)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.bias_ih_l0.fill_(50.0)
    activity = gate_activity(recorded(model, torch.zeros(10, 1, 1, dtype=torch.float64)))
    values = torch.arange(1.0, 11).double().tanh()
    torch.testing.assert_close(activity.memory.mean, values.mean()[None])
    torch.testing.assert_close(activity.memory.high, (values > 0.95).double().mean()[None])


class Leaky(tt.GatedCell):
    gates = 1

    def pointwise(self, x, u, state):
        return 0.9 * state.h + 0.1 * (x[0] + u[0]).tanh()


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU", "leaky", "lags"])
def test_carry_is_the_diagonal_of_the_jacobian(kind):
    options = {"dtype": torch.float64}
    if kind == "leaky":
        model = tt.Recurrent(Leaky, 3, 4, **options)
    elif kind == "lags":
        model = tt.RNN(3, 4, lags=(1, 3), **options)
    else:
        model = getattr(nn, kind)(3, 4, **options)
    x = torch.randn(6, 2, 3, dtype=torch.float64)
    recording = recorded(model, x)
    activity = gate_activity(recording, samples=1000)
    dynamics = Dynamics(recording.cell)
    found = []
    for t in range(6):
        for b, before in enumerate(dynamics.flatten(recording.before(t))):
            at = x[t, b : b + 1]
            jacobian = torch.autograd.functional.jacobian(
                lambda s, at=at: dynamics(s[None], at)[0], before
            )
            found.append(jacobian.diagonal())
    expected = torch.stack(found).mean(0)
    torch.testing.assert_close(torch.cat([*activity.carry.values()]), expected)
    if kind == "leaky":
        assert activity.gates is activity.time_constants is activity.saturated is None


def test_steps_that_start_afresh_carry_nothing_and_are_left_out():
    model = tt.RNN(3, 4)
    x, reset = torch.randn(3, 2, 3), torch.ones(3, 2, dtype=torch.bool)
    activity = gate_activity(recorded(model, x, reset=reset))
    assert activity.carry["h"].isnan().all()


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_chunks_packing_and_subsets_are_the_same_steps(kind):
    model = getattr(nn, kind)(3, 4)
    x = torch.randn(9, 3, 3)

    def in_chunks():
        state, total = None, 0.0
        for part in x.split(4):
            y, state = model(part, state)
            total = total + y.sum()
        return total

    def same(a, b):
        for name in a.gates:
            torch.testing.assert_close(a.gates[name].mean, b.gates[name].mean)
            torch.testing.assert_close(a.gates[name].slope, b.gates[name].slope)
        torch.testing.assert_close(a.dead, b.dead)

    whole = recorded(model, x)
    same(gate_activity(whole), gate_activity(record(model, in_chunks)))
    packed = pack_padded_sequence(x, torch.tensor([4, 9, 6]), enforce_sorted=False)
    ragged = record(model, lambda: model(packed)[0].data.sum())
    same(
        gate_activity(ragged, sequences=[2]),
        gate_activity(recorded(model, x[:6, 2:])),
    )


def test_nothing_is_changed():
    model = nn.LSTM(3, 4)
    recording = recorded(model, torch.randn(6, 2, 3))
    held = [t.clone() for t in (*recording.states, recording.inputs, recording.outputs)]
    weights = [p.clone() for p in model.parameters()]
    random = torch.get_rng_state()
    first, second = gate_activity(recording, samples=3), gate_activity(recording, samples=3)
    assert torch.equal(first.carry["h"], second.carry["h"])
    assert torch.equal(torch.get_rng_state(), random)
    now = (*recording.states, recording.inputs, recording.outputs)
    assert all(torch.equal(a, b) for a, b in zip(held, now, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(weights, model.parameters(), strict=True))


def test_bad_arguments():
    recording = recorded(nn.GRU(3, 4), torch.randn(6, 2, 3))
    for options in ({"margin": 0.5}, {"least_slope": 0.0}, {"samples": 0}, {"sequences": [2]}):
        with pytest.raises(errors.ConfigurationError):
            gate_activity(recording, **options)
    x = torch.randn(6, 2, 3)
    x[3] = math.nan
    with pytest.raises(errors.ConfigurationError, match="not finite"):
        gate_activity(recorded(nn.GRU(3, 4), x))


@pytest.mark.parametrize(
    "kind",
    [tt.cells.LayerNormLSTMCell, tt.cells.RecurrentDropoutGRUCell, tt.cells.LayerNormGRUCell],
)
def test_gates_are_read_of_every_cell_that_declares_them(kind):
    """The factor by which a unit keeps its memory is, without other ways, that memory's slope."""
    cell = kind(3, 4, dtype=torch.float64)
    with torch.no_grad():
        cell.weight_hh.zero_()
    run = recorded(tt.Recurrent(cell).eval(), torch.randn(7, 5, 3).double())
    activity = gate_activity(run, samples=1000)
    assert list(activity.gates) == list(cell.gate_names)
    kept = activity.gates[cell.remember_gates[0]]
    assert kept.activation == "sigmoid"
    field = "c" if activity.memory is not None else "h"
    torch.testing.assert_close(activity.carry[field], kept.mean)
