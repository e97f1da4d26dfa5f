import itertools
import math

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

import throughtime as tt
from throughtime import errors
from throughtime.core.student import student_tail
from throughtime.instruments import Dynamics, gradient_flow, record
from throughtime.instruments.forward_memory import perturbation_survival
from throughtime.instruments.input_influence import input_influence


def recorded(model, x, **options):
    return record(model, lambda: model(x, **options)[0].sum())


def linear(weights, **options):
    """h_t = W h_{t-1} + x_t[0] 1."""
    model = tt.RNN(1, len(weights), nonlinearity="identity", bias=False, **options)
    with torch.no_grad():
        model.weight_hh_l0.copy_(torch.as_tensor(weights, dtype=torch.float64))
        model.weight_ih_l0.fill_(1)
    return model


def test_one_linear_unit_keeps_a_power_of_its_weight():
    """ds_{t+k} = w^k ds_t exactly, whatever the state and the input."""
    x = torch.randn(40, 3, 1, dtype=torch.float64)
    for w in (0.9, 1.05):
        survival = perturbation_survival(recorded(linear([[w]], dtype=torch.float64), x))
        lags = torch.arange(len(survival.median), dtype=torch.float64)
        assert len(lags) == 40
        for curve in (survival.geometric_mean, *survival.quantiles):
            torch.testing.assert_close(curve, w**lags, rtol=1e-9, atol=0)
        assert not survival.erased.any()
        if w < 1:
            assert survival.half_life() == pytest.approx(math.log(2) / -math.log(w), rel=1e-9)
            assert survival.survives(0.5) == 6  # 0.9^6 = 0.53
            assert survival.survives() == 39
        else:
            assert survival.half_life() == math.inf


def test_quantiles_of_units_that_forget_at_other_rates():
    """In a diagonal network the ratio is sqrt(sum over i of w_i^(2k) v_i^2) of the directions v."""
    rates = torch.tensor([0.5, 0.9, 0.99], dtype=torch.float64)
    recording = recorded(linear(rates.diag(), dtype=torch.float64), torch.zeros(60, 1, 1).double())
    survival = perturbation_survival(recording, directions=4000, starts=[0], size=1.0)
    v = torch.randn(200_000, 3, dtype=torch.float64)
    v = v / v.norm(dim=-1, keepdim=True)
    for k in (1, 5, 50):
        ratios = (v * rates**k).norm(dim=-1)
        expected = ratios.quantile(torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64))
        torch.testing.assert_close(survival.quantiles[:, k], expected, rtol=0.1, atol=0)
        torch.testing.assert_close(
            survival.geometric_mean[k], ratios.log().mean().exp(), rtol=0.05, atol=0
        )


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_equals_a_loop_over_starts_and_directions(kind):
    """For tiny changes the ratio is that of the product of Jacobians; here by running twice."""
    model = getattr(nn, kind)(3, 5, dtype=torch.float64)
    x, lengths = torch.randn(9, 3, 3, dtype=torch.float64), [9, 4, 7]
    packed = pack_padded_sequence(x, torch.tensor(lengths), enforce_sorted=False)
    recording = record(model, lambda: model(packed)[0].data.sum())
    options = {"directions": 3, "sequences": 3, "starts": [1, 4], "seed": 3}
    survival = perturbation_survival(recording, **options)
    # the same directions, drawn again
    generator = torch.Generator().manual_seed(3)
    torch.randperm(3, generator=generator)
    size = 10 if kind == "LSTM" else 5
    pairs = sorted(
        ((t, b) for b in range(3) for t in (1, 4) if t < lengths[b] - 1),
        key=lambda pair: pair[0] - lengths[pair[1]],
    )
    v = torch.randn(3, len(pairs), size, generator=generator, dtype=torch.float64)
    dynamics = Dynamics(recording.cell)
    flat = dynamics.flatten(recording.states)
    valid = torch.cat([flat[:n, b] for b, n in enumerate(lengths)])
    rms = valid.square().sum(-1).mean().sqrt()
    ratios = {}
    for (i, (t, b)), d in itertools.product(enumerate(pairs), range(3)):
        s = flat[t, b][None]
        change = 1e-3 * rms * v[d, i][None] / v[d, i].norm()
        other = s + change
        for k in range(1, lengths[b] - t):
            s, other = (dynamics(q, x[t + k, b][None]) for q in (s, other))
            ratios.setdefault(k, []).append(float((other - s).norm() / change.norm()))
    assert survival.count.tolist() == [3 * len(pairs), *(len(r) for r in ratios.values())]
    for k, expected in ratios.items():
        rows = torch.tensor(expected, dtype=torch.float64)
        q = rows.quantile(torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64))
        torch.testing.assert_close(survival.quantiles[:, k], q, rtol=1e-8, atol=0)
        torch.testing.assert_close(survival.geometric_mean[k], rows.log().mean().exp())


def test_single_precision_is_measured_as_well():
    model = nn.LSTM(3, 5)
    x = torch.randn(30, 4, 3)
    small = perturbation_survival(recorded(model, x))
    large = perturbation_survival(recorded(model.double(), x.double()))
    assert small.median.dtype == torch.float64
    torch.testing.assert_close(small.median, large.median, rtol=1e-3, atol=1e-9)


def test_a_reset_leaves_exactly_nothing():
    model, x = tt.LSTM(3, 4), torch.randn(12, 2, 3)
    reset = torch.zeros(12, 2, dtype=torch.bool)
    reset[5, 0] = True
    recording = recorded(model, x, reset=reset)
    survival = perturbation_survival(recording, starts=[2])
    assert survival.erased[:3].tolist() == [0, 0, 0]
    assert set(survival.erased[3:].tolist()) == {0.5}
    assert (survival.quantiles[0, 3:] == 0).all()
    assert (survival.geometric_mean > 0).all()  # of the sequence without a reset
    reset[5] = True
    survival = perturbation_survival(recorded(model, x, reset=reset), starts=[2])
    assert survival.half_life() <= 3
    assert survival.median[3] == survival.geometric_mean[3] == 0
    assert survival.survives(1e-9) == 2


@pytest.mark.parametrize("kind", ["RNN", "GRU"])
def test_without_recurrent_weights_a_state_is_exactly_forgotten(kind):
    model = nn.GRU(3, 40) if kind == "GRU" else nn.RNN(3, 40)
    with torch.no_grad():
        model.weight_hh_l0.zero_()
        model.bias_ih_l0[:] = -1000.0 if kind == "GRU" else 0.0  # z = 0
        model.bias_ih_l0[80:] = 0.0
    survival = perturbation_survival(recorded(model, torch.randn(12, 2, 3)))
    assert survival.median[1:].tolist() == [0]  # and the lags end there
    assert survival.erased[1] == 1
    assert survival.half_life() == 1


def test_chunked_calls_are_one_run_and_detached_ones_too():
    model, x = nn.GRU(3, 4, dtype=torch.float64), torch.randn(12, 2, 3, dtype=torch.float64)

    def in_chunks(carried):
        state, total = None, 0.0
        for part in x.split(5):
            y, state = model(part, state if carried else None)
            state = state.detach()
            total = total + y.sum()
        return total

    whole = perturbation_survival(recorded(model, x), starts=[0])
    chunked = perturbation_survival(record(model, lambda: in_chunks(True)), starts=[0])
    torch.testing.assert_close(whole.median, chunked.median, rtol=1e-6, atol=0)
    fresh = perturbation_survival(record(model, lambda: in_chunks(False)), starts=[0])
    assert fresh.erased[:6].tolist() == [0, 0, 0, 0, 0, 1]


def test_survival_changes_nothing_and_repeats():
    model = nn.LSTM(3, 4)
    recording = recorded(model, torch.randn(12, 2, 3))
    random, states = torch.get_rng_state(), recording.states.c.clone()
    a, b = (perturbation_survival(recording) for _ in range(2))
    other = perturbation_survival(recording, seed=1)
    assert torch.equal(a.quantiles, b.quantiles)
    assert not torch.equal(a.quantiles, other.quantiles)
    assert torch.equal(torch.get_rng_state(), random)
    assert torch.equal(recording.states.c, states)
    assert all(p.grad is None for p in model.parameters())


def test_bad_survivals():
    recording = recorded(nn.GRU(3, 4), torch.randn(12, 2, 3))
    cases = [
        ({"size": 0.0}, "size"),
        ({"size": 1e-30}, "rounding"),
        ({"directions": 0}, "directions"),
        ({"longest": 0}, "longest"),
        ({"starts": [11]}, "another step after it"),
    ]
    for options, words in cases:
        with pytest.raises(errors.ConfigurationError, match=words):
            perturbation_survival(recording, **options)


# influence of old inputs


def moving_sum(steps, width=1):
    """A delay line whose output the loss reads: exactly the last `steps` inputs."""
    model = tt.RNN(1, steps, nonlinearity="identity", bias=False, dtype=torch.float64)
    with torch.no_grad():
        model.weight_hh_l0.copy_(torch.diag(torch.ones(steps - 1), -1))
        model.weight_ih_l0.zero_()
        model.weight_ih_l0[0] = width
    return model


@pytest.mark.parametrize("chunk", [12, 5, 1])
def test_a_delay_line_uses_the_inputs_that_it_holds(chunk):
    """The loss compares the input of 5 steps back with itself."""
    model, x = moving_sum(6), torch.randn(12, 100, 1, dtype=torch.float64)

    def loss():
        state = None
        for part in x.split(chunk):
            y, state = model(part, state)
        return (y[-1, :, 5] - x[6, :, 0]).square().mean()

    influence = input_influence(model, loss, lags=[0, 4, 5])
    assert influence.loss == 0
    assert influence.used_lag == 4  # beyond 4 there is the input of 5 steps back, beyond 5 not
    assert (influence.scrambled[:2] > 0.5).all()
    assert (influence.scrambled[2:] == 0).all()
    assert (influence.output_change[2:] == 0).all()
    # k + 1 of the 6 inputs stay; the others are independent
    expected = torch.tensor([2 * (5 - k) / 6 for k in (0, 4)], dtype=torch.float64).sqrt()
    torch.testing.assert_close(influence.output_change[:2], expected, rtol=0.1, atol=0)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_equals_a_loop_over_sequences_with_inputs_replaced(kind, packed):
    model = getattr(nn, kind)(2, 3, 2, dtype=torch.float64)
    lengths = [4, 8, 6, 2] if packed else [8, 8, 8, 8]
    x = torch.randn(8, 4, 2, dtype=torch.float64)

    def loss():
        if packed:
            _, state = model(pack_padded_sequence(x, torch.tensor(lengths), enforce_sorted=False))
        else:
            _, state = model(x)
        h = state[0] if kind == "LSTM" else state
        return h[-1].square().sum()

    influence = input_influence(model, loss, lags=[0, 2, 5], repeats=100)
    assert influence.permutations == 9  # all that there are of 4 without a fixed point
    permutations = [
        p for p in itertools.permutations(range(4)) if all(i != q for i, q in enumerate(p))
    ]

    def last(rows):
        _, state = model(rows[:, None])
        return (state[0] if kind == "LSTM" else state)[-1, 0]

    with torch.no_grad():
        plain = torch.stack([last(x[:n, b]) for b, n in enumerate(lengths)])
        torch.testing.assert_close(influence.loss, float(plain.square().sum()))
        for j, lag in enumerate([0, 2, 5]):
            losses, changes = [], []
            for p in permutations:
                ends = []
                for b, n in enumerate(lengths):
                    rows = x[:n, b].clone()
                    for t in range(n - 1 - lag):
                        rows[t] = x[t % lengths[p[b]], p[b]]
                    ends.append(last(rows))
                h = torch.stack(ends)
                long = [b for b, n in enumerate(lengths) if n - 1 > lag]
                losses.append(h.square().sum())
                changes.append((h - plain)[long].norm() / plain[long].norm())
            losses, changes = torch.stack(losses), torch.stack(changes)
            torch.testing.assert_close(influence.scrambled[j], losses.mean())
            torch.testing.assert_close(influence.standard_error[j], losses.std() / 3)
            torch.testing.assert_close(influence.output_change[j], changes.mean())
            torch.testing.assert_close(influence.output_change_error[j], changes.std() / 3)


def test_padding_is_not_read():
    model = tt.GRU(2, 3)
    x = torch.randn(8, 4, 2)
    x[5:, 0] = math.nan
    influence = input_influence(model, lambda: model(x, lengths=[5, 8, 8, 8])[1].sum())
    assert influence.scrambled.isfinite().all()
    assert influence.lags.tolist() == [0, 1, 2, 4, 6]


def test_cells_and_directions():
    cell, x = nn.LSTMCell(2, 3), torch.randn(6, 5, 2)

    def loss():
        state = None
        for x_t in x:
            state = cell(x_t, state)
        return state[0].sum()

    layer = nn.LSTM(2, 3)
    layer.load_state_dict({f"{n}_l0": p for n, p in cell.state_dict().items()})
    a = input_influence(cell, loss, lags=[0, 3], repeats=3)
    b = input_influence(layer, lambda: layer(x)[0][-1].sum(), lags=[0, 3], repeats=3)
    torch.testing.assert_close(a.scrambled, b.scrambled)
    torch.testing.assert_close(a.output_change, b.output_change)
    both = nn.GRU(2, 3, bidirectional=True)
    back = nn.GRU(2, 3)
    names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
    back.load_state_dict({n: getattr(both, f"{n}_reverse") for n in names})
    a = input_influence(both, lambda: both(x)[1][1].sum(), lags=[0, 3], repeats=3, direction=1)
    b = input_influence(back, lambda: back(x.flip(0))[0][-1].sum(), lags=[0, 3], repeats=3)
    torch.testing.assert_close(a.scrambled, b.scrambled)
    torch.testing.assert_close(a.output_change, b.output_change)


def test_a_memory_that_is_not_used_is_not_called_used():
    """A loss on noise that old inputs write: it changes, and is as often lower as higher."""
    used = naive = 0
    for seed in range(15):
        torch.manual_seed(seed)
        model, x = moving_sum(3), torch.randn(5, 16, 1, dtype=torch.float64)
        y = torch.randn(16, dtype=torch.float64)
        influence = input_influence(
            model,
            lambda model=model, x=x, y=y: (model(x)[0][-1, :, 2] - y).square().mean(),
            lags=[1],
            repeats=20,
        )
        assert influence.output_change[0] > 0
        used += influence.used_lag is not None
        rise = influence.scrambled[0] - influence.loss
        naive += bool(student_tail(float(rise / influence.standard_error[0]), 19) < 0.01)
    assert used <= 1  # 0.15 expected
    assert naive >= 3  # what the error of the mean alone would say


def test_too_few_sequences_to_tell():
    model, x = moving_sum(3), torch.randn(8, 2, 1, dtype=torch.float64)
    influence = input_influence(model, lambda: (model(x)[0][-1, :, 2] - x[5, :, 0]).square().sum())
    assert influence.permutations == 1
    assert influence.scrambled[0] > influence.loss
    assert influence.p_values.isnan().all()
    assert influence.used_lag is None


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.before = nn.BatchNorm1d(3)
        self.recurrent = nn.LSTM(3, 5, 2, dropout=0.3, batch_first=True)
        self.after = nn.Sequential(nn.Dropout(0.5), nn.Linear(5, 2))

    def forward(self, x):
        x = self.before(x.transpose(1, 2)).transpose(1, 2)
        return self.after(self.recurrent(x)[0][:, -1])


def test_influence_changes_nothing_and_sees_the_same_dropout():
    model, x = Model().train(), torch.randn(6, 8, 3)
    gradient_flow(model, lambda: model(x).sum())
    before = {n: t.clone() for n, t in model.state_dict().items()}
    attributes = {n: dict(m.__dict__) for n, m in model.named_modules()}
    random = torch.get_rng_state()
    influence = input_influence(model, lambda: model(x).square().sum(), lags=[0, 6], repeats=2)
    again = input_influence(model, lambda: model(x).square().sum(), lags=[0, 6], repeats=2)
    assert torch.equal(influence.scrambled, again.scrambled)
    assert torch.equal(torch.get_rng_state(), random)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])
    for name, module in model.named_modules():
        assert module.__dict__ == attributes[name]
    assert all(p.grad is None for p in model.parameters())
    assert 0 < influence.output_change[1] < influence.output_change[0] < 10


def test_bad_influences():
    model, x = nn.GRU(3, 4), torch.randn(6, 3, 3)
    cases = [
        (lambda: model(x[:, :1])[0].sum(), {}, "one sequence"),
        (lambda: model(x[:1])[0].sum(), {}, "one step"),
        (lambda: model(x)[0].sum(), {"lags": [5]}, "older steps must be left"),
        (lambda: model(x)[0].sum(), {"lags": []}, "older steps must be left"),
        (lambda: model(x)[0].sum(), {"repeats": 1}, "at least 2"),
        (lambda: model(x)[0].sum() * math.nan, {}, "finite"),
        (lambda: model(x)[0], {}, "scalar"),
        (lambda: model(x)[0].sum() + model(x[:, :2])[0].sum(), {}, "other numbers of sequences"),
    ]
    for loss, options, words in cases:
        with pytest.raises(errors.ConfigurationError, match=words):
            input_influence(model, loss, **options)
    drawn = iter(range(10))
    with pytest.raises(errors.ConfigurationError, match="at each call"):
        input_influence(model, lambda: model(x)[0].sum() + next(drawn))
