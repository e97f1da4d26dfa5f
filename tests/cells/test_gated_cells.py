"""The gated cells of the literature, against their equations and against each other."""

import copy

import pytest
import torch
from cells.references import gate, linear, sigmoid

import throughtime as tt
from throughtime.cells import (
    ClockworkCell,
    ElmanCell,
    GRUCell,
    IndRNNCell,
    LeakyCell,
    LSTMCell,
    MinGRUCell,
    MinimalGatedUnitCell,
    MinLSTMCell,
    MultiplicativeCell,
    MultiplicativeGRUCell,
    MultiplicativeLSTMCell,
    RecurrentDropoutGRUCell,
    RecurrentDropoutLSTMCell,
    ThresholdCell,
)
from throughtime.core.state import state_type
from throughtime.testing import CellConformance
from throughtime.wiring import ZoneoutCell

CPU = torch.device("cpu")


def both(p, x, h):
    a = linear(x, p["weight_ih"], p.get("bias_ih"))
    return a, linear(h, p["weight_hh"], p.get("bias_hh"))


def along(x, state, step):
    """Outputs of h_t = step(x_t, h_{t-1}), and the state (h_t,)."""
    h, outputs = state.h, []
    for x_t in x:
        h = step(x_t, h)
        outputs.append(h)
    return torch.stack(outputs), state_type("h")(h)


class TestThreshold(CellConformance):
    def make_cell(self, input_size, hidden_size):
        return ThresholdCell(input_size, hidden_size)

    def reference(self, parameters, x, state):
        def step(x_t, h):
            a, b = both(parameters, x_t, h)
            return torch.where(a + b >= 0, 1.0, -1.0).double() + 0.0 * (a + b)

        return along(x, state, step)


class TestLeaky(CellConformance):
    def make_cell(self, input_size, hidden_size):
        return LeakyCell(input_size, hidden_size, rate=(0.2, 0.7), learnable=True)

    def reference(self, parameters, x, state):
        def step(x_t, h):
            a, b = both(parameters, x_t, h)
            rate = sigmoid(parameters["leak"])
            return rate * h + (1 - rate) * torch.tanh(a + b)

        return along(x, state, step)


class TestIndRNN(CellConformance):
    def make_cell(self, input_size, hidden_size):
        return IndRNNCell(input_size, hidden_size)

    def reference(self, parameters, x, state):
        def step(x_t, h):
            a = linear(x_t, parameters["weight_ih"], parameters["bias_ih"])
            return (a + parameters["own_weight"] * h).clamp(min=0)

        return along(x, state, step)


class TestMinimalGatedUnit(CellConformance):
    def make_cell(self, input_size, hidden_size):
        return MinimalGatedUnitCell(input_size, hidden_size)

    def reference(self, parameters, x, state):
        n = state.h.shape[1]

        def step(x_t, h):
            a, b = both(parameters, x_t, h)
            f = sigmoid(gate(a, 0, n) + gate(b, 0, n))
            return (1 - f) * h + f * torch.tanh(gate(a, 1, n) + f * gate(b, 1, n))

        return along(x, state, step)


def positive(a):
    return torch.where(a >= 0, a + 0.5, sigmoid(a))


class TestMinGRU(CellConformance):
    def make_cell(self, input_size, hidden_size):
        return MinGRUCell(input_size, hidden_size)

    def reference(self, parameters, x, state):
        n = state.h.shape[1]

        def step(x_t, h):
            a = linear(x_t, parameters["weight_ih"], parameters["bias_ih"])
            z = sigmoid(gate(a, 0, n))
            return (1 - z) * h + z * gate(a, 1, n)

        return along(x, state, step)


class TestMinLSTM(CellConformance):
    def make_cell(self, input_size, hidden_size):
        return MinLSTMCell(input_size, hidden_size, candidate="positive")

    def reference(self, parameters, x, state):
        n = state.h.shape[1]

        def step(x_t, h):
            a = linear(x_t, parameters["weight_ih"], parameters["bias_ih"])
            i, f = sigmoid(gate(a, 0, n)), sigmoid(gate(a, 1, n))
            return f / (i + f) * h + i / (i + f) * positive(gate(a, 2, n))

        return along(x, state, step)


def integrated(p, k, a, b):
    return p["alpha"][k] * a * b + p["beta1"][k] * b + p["beta2"][k] * a + p["offset"][k]


class TestMultiplicative(CellConformance):
    def make_cell(self, input_size, hidden_size):
        return MultiplicativeCell(input_size, hidden_size)

    def reference(self, parameters, x, state):
        def step(x_t, h):
            return torch.tanh(integrated(parameters, 0, *both(parameters, x_t, h)))

        return along(x, state, step)


class TestMultiplicativeGRU(CellConformance):
    def make_cell(self, input_size, hidden_size):
        return MultiplicativeGRUCell(input_size, hidden_size)

    def reference(self, parameters, x, state):
        n = state.h.shape[1]

        def step(x_t, h):
            a, b = both(parameters, x_t, h)
            a, b = ([gate(v, k, n) for k in range(3)] for v in (a, b))
            r = sigmoid(integrated(parameters, 0, a[0], b[0]))
            z = sigmoid(integrated(parameters, 1, a[1], b[1]))
            new = torch.tanh(integrated(parameters, 2, a[2], r * b[2]))
            return (1 - z) * new + z * h

        return along(x, state, step)


class TestMultiplicativeLSTM(CellConformance):
    def make_cell(self, input_size, hidden_size):
        return MultiplicativeLSTMCell(input_size, hidden_size)

    def reference(self, parameters, x, state):
        h, c = state
        n, outputs = h.shape[1], []
        for x_t in x:
            a, b = both(parameters, x_t, h)
            i, f, g, o = (integrated(parameters, k, gate(a, k, n), gate(b, k, n)) for k in range(4))
            c = sigmoid(f) * c + sigmoid(i) * torch.tanh(g)
            h = sigmoid(o) * torch.tanh(c)
            outputs.append(h)
        return torch.stack(outputs), state_type("h", "c")(h, c)


class Clockwork(CellConformance):
    connections = "slower"

    def make_cell(self, input_size, hidden_size):
        return ClockworkCell(input_size, hidden_size, periods=(1, 2), connections=self.connections)

    def reference(self, parameters, x, state):
        h, steps = state
        n, outputs = h.shape[1], []
        fast = n - n // 2  # the first group is the larger one where they are unequal
        weight = parameters["weight_hh"].clone()
        if self.connections == "slower":
            weight[fast:, :fast] = 0
        for x_t in x:
            a = linear(x_t, parameters["weight_ih"], parameters["bias_ih"])
            new = torch.tanh(a + linear(h, weight, parameters["bias_hh"]))
            acting = torch.arange(n) < fast
            h = torch.where(acting | (steps % 2 == 0)[:, None], new, h)
            steps = steps + 1
            outputs.append(h)
        return torch.stack(outputs), state_type("h", "steps")(h, steps)


class TestClockwork(Clockwork):
    pass


class TestMultipleTimeScales(Clockwork):
    connections = "all"


class TestRecurrentDropoutLSTM(CellConformance):
    """In evaluation it is the LSTM."""

    def make_cell(self, input_size, hidden_size):
        return RecurrentDropoutLSTMCell(input_size, hidden_size)

    def reference(self, parameters, x, state):
        h, c, steps = state
        n, outputs = h.shape[1], []
        for x_t in x:
            a, b = both(parameters, x_t, h)
            i, f, g, o = (gate(a + b, k, n) for k in range(4))
            c = sigmoid(f) * c + sigmoid(i) * torch.tanh(g)
            h = sigmoid(o) * torch.tanh(c)
            outputs.append(h)
        return torch.stack(outputs), state_type("h", "c", "steps")(h, c, steps + len(x))


class TestRecurrentDropoutGRU(CellConformance):
    """In evaluation it is the GRU."""

    def make_cell(self, input_size, hidden_size):
        return RecurrentDropoutGRUCell(input_size, hidden_size, per="sequence")

    def reference(self, parameters, x, state):
        n, h, outputs = state.h.shape[1], state.h, []
        for x_t in x:
            a, b = both(parameters, x_t, h)
            r, z = (sigmoid(gate(a + b, k, n)) for k in range(2))
            h = (1 - z) * torch.tanh(gate(a, 2, n) + r * gate(b, 2, n)) + z * h
            outputs.append(h)
        return torch.stack(outputs), state_type("h", "steps")(h, state.steps + len(x))


class TestZoneout(CellConformance):
    """In evaluation, the expectation."""

    def make_cell(self, input_size, hidden_size):
        return ZoneoutCell(
            LSTMCell(input_size, hidden_size, peepholes=True), output_rate=0.1, memory_rate=0.5
        )

    def reference(self, parameters, x, state):
        h, c, steps = state
        n, outputs, p = h.shape[1], [], parameters
        for x_t in x:
            a, b = both(p, x_t, h)
            i, f, g, o = (gate(a + b, k, n) for k in range(4))
            i, f = i + p["peephole_input"] * c, f + p["peephole_forget"] * c
            new = sigmoid(f) * c + sigmoid(i) * torch.tanh(g)
            out = sigmoid(o + p["peephole_output"] * new) * torch.tanh(new)
            h, c = 0.1 * h + 0.9 * out, 0.5 * c + 0.5 * new
            outputs.append(h)
        return torch.stack(outputs), state_type("h", "c", "steps")(h, c, steps + len(x))


# -- what the equations do not say ---------------------------------------------------------------


def run(layer, x, **options):
    return layer(x, **options)[0]


@pytest.mark.parametrize(
    ("kind", "plain"),
    [
        (MultiplicativeCell, ElmanCell),
        (MultiplicativeLSTMCell, LSTMCell),
        (MultiplicativeGRUCell, GRUCell),
    ],
)
def test_frozen_multiplicative_integration_is_the_plain_cell(kind, plain) -> None:
    frozen = ("alpha", "beta1", "beta2", "offset")
    cell = kind(2, 4, alpha=0.0, beta1=1.0, beta2=1.0, frozen=frozen)
    other = plain(2, 4, bias=False)
    other.load_state_dict({n: p for n, p in cell.state_dict().items() if n.startswith("weight")})
    x = torch.randn(6, 3, 2)
    torch.testing.assert_close(run(tt.Recurrent(cell), x), run(tt.Recurrent(other), x))
    assert {n for n, p in cell.named_parameters() if p.requires_grad} == {"weight_ih", "weight_hh"}


def test_the_fast_read_the_slow_and_never_the_other_way() -> None:
    """What a fast unit is makes no difference to a slow one, ever; the other way it does."""
    layer = tt.Recurrent(ClockworkCell(1, 6, periods=(1, 2, 4)), engine="eager")
    x = torch.randn(16, 1, 1)

    def outputs(changed):
        start = torch.zeros(1, 1, 6)
        start[0, 0, changed] = 5.0
        return run(layer, x, hx=start)[:, 0]

    plain = run(layer, x)[:, 0]
    for changed, same, other in ((0, (2, 6), (0, 2)), (3, (4, 6), (0, 4))):
        found = outputs(changed)
        assert torch.equal(found[:, slice(*same)], plain[:, slice(*same)])
        assert (found[1:, slice(*other)] != plain[1:, slice(*other)]).any()
    assert (outputs(5)[1:, :4] != plain[1:, :4]).any()


def test_the_schedule_survives_truncation_and_starts_anew_at_resets() -> None:
    layer = tt.Recurrent(ClockworkCell(1, 4, periods=(1, 4)))
    x = torch.randn(11, 2, 1)
    whole, _ = layer(x)
    first, state = layer(x[:3])
    second, _ = layer(x[3:], state)
    torch.testing.assert_close(torch.cat([first, second]), whole)
    reset = torch.zeros(11, 2, dtype=torch.bool)
    reset[3] = True
    torch.testing.assert_close(run(layer, x, reset=reset)[3:], run(layer, x[3:]))
    held = whole[1:, :, 2:] == whole[:-1, :, 2:]
    changes = (~held).any(-1).any(-1).nonzero().flatten() + 1
    assert changes.tolist() == [4, 8]


def test_zoneout_keeps_units_and_has_the_names_of_what_it_wraps() -> None:
    wrapped = GRUCell(2, 50)
    cell = ZoneoutCell(wrapped, output_rate=0.3)
    assert list(cell.state_dict()) == list(wrapped.state_dict())
    layer = tt.Recurrent(cell).train()
    kept = (layer(torch.randn(200, 1, 2))[0].diff(dim=0) == 0).double().mean()
    assert abs(float(kept) - 0.3) < 0.02
    none = tt.Recurrent(ZoneoutCell(wrapped, output_rate=0.0)).train()
    x = torch.randn(5, 3, 2)
    torch.testing.assert_close(run(none, x), run(tt.Recurrent(wrapped), x))
    with pytest.raises(tt.errors.ConfigurationError, match="expected a probability"):
        ZoneoutCell(wrapped, output_rate=1.5)


@pytest.mark.parametrize("assign", [False, True])
def test_a_state_dict_of_zoneout_has_the_names_of_its_cell(assign: bool) -> None:
    """A state dict that the wrapped cell saved is loaded, into both: they share their tensors."""
    cell = torch.nn.Sequential(ZoneoutCell(LSTMCell(2, 3, peepholes=True)))
    saved = {f"0.{name}": t for name, t in LSTMCell(2, 3, peepholes=True).state_dict().items()}
    cell.load_state_dict(saved, assign=assign)
    assert list(cell.state_dict()) == list(saved)
    cell = copy.deepcopy(cell).double().to("meta")[0]
    assert cell.cell.peephole_input is cell.peephole_input
    assert cell.cell.weight_hh is cell.weight_hh
    with pytest.raises(RuntimeError, match=r'Missing key.*"weight_hh"'):
        ZoneoutCell(GRUCell(2, 3)).load_state_dict({})


def test_a_cell_with_a_step_of_its_own_is_not_standard() -> None:
    class Own(GRUCell):
        def step(self, projected, state, streams=()):
            return super().step(2 * projected, state)

    assert ZoneoutCell(GRUCell(2, 3)).standard
    assert GRUCell(2, 3).standard
    assert not Own(2, 3).standard
    assert GRUCell(2, 3).starts_from_zero


@pytest.mark.parametrize("kind", [RecurrentDropoutLSTMCell, RecurrentDropoutGRUCell])
def test_masks_of_recurrent_dropout(kind) -> None:
    steps = torch.tensor([[0, 3], [1, 4], [2, 0], [3, 1], [0, 2]])
    generator = torch.Generator().manual_seed(0)
    options = {"training": True, "dtype": torch.float64, "generator": generator}
    (masks,) = kind(2, 400, rate=0.25, per="sequence").draw_streams(steps, **options)
    assert set(masks.unique().tolist()) == {0.0, 1 / 0.75}
    assert abs(float(masks.mean()) - 1) < 0.1
    same = [[bool((masks[t, b] == masks[t - 1, b]).all()) for t in range(1, 5)] for b in (0, 1)]
    assert same == [[True, True, True, False], [True, False, True, True]]
    (masks,) = kind(2, 400, rate=0.25).draw_streams(steps, **options)
    assert not (masks[1] == masks[0]).all()


@pytest.mark.parametrize("kind", [MinGRUCell, MinLSTMCell])
@pytest.mark.parametrize("candidate", ["identity", "positive"])
def test_the_scan_equals_the_steps(kind, candidate) -> None:
    cell = kind(3, 5, candidate=candidate).double()
    layers = [tt.Recurrent(cell, engine=engine).double() for engine in ("eager", "scan")]
    layers[1].load_state_dict(layers[0].state_dict())
    x = torch.randn(37, 4, 3, dtype=torch.float64)
    x[20:, 1] = torch.nan
    lengths, reset = torch.tensor([37, 20, 1, 36]), torch.rand(37, 4) < 0.1
    results = []
    for layer in layers:
        x = x.detach().requires_grad_()
        outputs, h = layer(x, lengths=lengths, reset=reset)
        loss = outputs.square().sum() + h.sin().sum()
        found = torch.autograd.grad(loss, [x, *layer.parameters()])
        results.append([outputs, h, *found])
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


@pytest.mark.usefixtures("unchecked")
def test_bad_options_are_refused() -> None:
    wrong = [
        (lambda: LeakyCell(2, 3, rate=1.0), "rate: got 1.0"),
        (lambda: LeakyCell(2, 3, rate=0.0, learnable=True), "cannot leave 0"),
        (lambda: LeakyCell(2, 3, nonlinearity="tahn"), "Did you mean 'tanh'"),
        (lambda: IndRNNCell(2, 3, largest=0.0), "above 0"),
        (lambda: IndRNNCell(2, 3, nonlinearity="rleu"), "Did you mean 'relu'"),
        (lambda: MinGRUCell(2, 3, candidate="tanh"), "unknown candidate"),
        (lambda: MultiplicativeCell(2, 3, frozen=("gamma",)), "unknown parameter to freeze"),
        (lambda: ClockworkCell(2, 3, periods=(2, 1)), "that increase"),
        (lambda: ClockworkCell(2, 1, periods=(1, 2)), "at least 2, one unit a period"),
        (lambda: ClockworkCell(2, 3, periods=(1,), connections="none"), "unknown connections"),
        (lambda: RecurrentDropoutGRUCell(2, 3, rate=1.0), "a probability below 1"),
        (lambda: RecurrentDropoutGRUCell(2, 3, per="batch"), "unknown per"),
        (lambda: ZoneoutCell(tt.cells.ChoGRUCell(2, 3)), "expected a gated cell"),
    ]
    for make, words in wrong:
        with pytest.raises(tt.errors.ConfigurationError, match=words):
            make()
