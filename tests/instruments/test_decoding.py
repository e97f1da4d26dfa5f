import math

import pytest
import torch
from torch import nn

import throughtime as tt
from throughtime import errors
from throughtime.instruments import Dynamics, record
from throughtime.instruments.decoding import PENALTIES, memory_decoding


def recorded(model, x, **options):
    return record(model, lambda: model(x, **options)[0].sum())


def linear(size, matrix, *, width=1, dtype=torch.float64):
    model = tt.RNN(width, size, nonlinearity="identity", bias=False, dtype=dtype)
    with torch.no_grad():
        model.weight_hh_l0.copy_(matrix)
        model.weight_ih_l0.zero_()
        for i in range(width):
            model.weight_ih_l0[i, i] = 1
    return model


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_delay_line_of_n_units_has_capacity_n(dtype):
    n = 6
    model = linear(n, torch.diag(torch.ones(n - 1), -1), dtype=dtype)
    x = torch.randn(40, 30, 1, dtype=dtype)
    decoding = memory_decoding(recorded(model, x), lags=range(10))
    torch.testing.assert_close(decoding.r2[:n, 0], torch.ones(n).double(), rtol=0, atol=1e-9)
    assert decoding.r2[n:].abs().max() < 0.02
    assert decoding.capacity == pytest.approx(n, abs=0.03)  # chance adds a little
    assert decoding.reach() >= n - 1
    assert decoding.size == n
    assert decoding.samples == 30 * 31
    within = memory_decoding(recorded(model, x), lags=range(n))
    assert within.capacity == pytest.approx(n, abs=1e-9)
    assert within.reach() == n - 1


def test_two_inputs_share_the_delay_line():
    """Inputs enter units 0 and 1; a shift by two keeps three steps of each in six units."""
    model = linear(6, torch.diag(torch.ones(4), -2), width=2)
    x = torch.randn(30, 30, 2, dtype=torch.float64)
    decoding = memory_decoding(recorded(model, x), lags=range(5), permutations=3)
    expected = torch.tensor([1.0, 1, 1, 0, 0]).double()[:, None].expand(5, 2)
    torch.testing.assert_close(decoding.r2, expected, rtol=0, atol=0.02)


def test_an_ill_conditioned_delay_line_has_its_capacity_all_the_same():
    """Units that shrink by a thousand a step, and are mixed by a rotation that hides it."""
    n = 5
    scale = 10.0 ** -torch.arange(n).double()
    q, _ = torch.linalg.qr(torch.randn(n, n, dtype=torch.float64))
    shift = torch.diag(torch.ones(n - 1, dtype=torch.float64), -1)
    model = tt.RNN(1, n, nonlinearity="identity", bias=False, dtype=torch.float64)
    with torch.no_grad():
        change = q @ scale.diag()
        model.weight_hh_l0.copy_(change @ shift @ change.inverse())
        model.weight_ih_l0.copy_(change[:, :1])
    x = torch.randn(40, 30, 1, dtype=torch.float64)
    decoding = memory_decoding(recorded(model, x), lags=range(n), penalties=[1e-18])
    assert decoding.capacity == pytest.approx(n, abs=1e-4)


@pytest.mark.parametrize("spectral_radius", [0.5, 0.95])
def test_an_echo_state_network_has_no_more_capacity_than_units(spectral_radius):
    n = 10
    for nonlinearity in ("identity", "tanh"):
        matrix = torch.randn(n, n, dtype=torch.float64)
        matrix = matrix * spectral_radius / torch.linalg.eigvals(matrix).abs().max()
        model = tt.RNN(1, n, nonlinearity=nonlinearity, bias=False, dtype=torch.float64)
        with torch.no_grad():
            model.weight_hh_l0.copy_(matrix)
            model.weight_ih_l0.uniform_(-0.1, 0.1)
        x = torch.randn(120, 40, 1, dtype=torch.float64)
        decoding = memory_decoding(recorded(model, x), lags=range(40), permutations=1)
        assert 2 < decoding.capacity < n + 0.1


def test_without_recurrence_only_the_present_is_decoded():
    model = nn.RNN(1, 8)
    with torch.no_grad():
        model.weight_hh_l0.zero_()
    decoding = memory_decoding(recorded(model, torch.randn(40, 30, 1)), lags=range(10))
    assert decoding.r2[0, 0] > 0.99
    assert decoding.r2[1:].clamp(min=0).sum() < 0.03
    assert (decoding.null_level < 0.02).all()


def naive(recording, lags, folds, seed):
    """R^2 with every ridge regression solved on its own, from the samples."""
    lengths = recording.valid_lengths()
    usable = (lengths > max(lags)).nonzero()[:, 0]
    generator = torch.Generator().manual_seed(seed)
    usable = usable[torch.randperm(len(usable), generator=generator)].tolist()
    flat = Dynamics(recording.cell).flatten(recording.states).double()
    rows = [(t, b, p) for p, b in enumerate(usable) for t in range(max(lags), int(lengths[b]))]
    s = torch.stack([flat[t, b] for t, b, _ in rows])
    s = (s - s.mean(0)) / s.std(0, correction=0)
    fold = torch.tensor([p % folds for *_, p in rows])

    def sse(y, train, test, penalty):
        centre, mean = s[train].mean(0), y[train].mean()
        a = s[train] - centre
        gram = a.T @ a + penalty * len(a) * torch.eye(a.shape[1], dtype=a.dtype)
        w = torch.linalg.solve(gram, a.T @ (y[train] - mean))
        error = y[test] - mean - (s[test] - centre) @ w
        return float(error.square().sum()), float((y[test] - mean).square().sum())

    found = []
    for lag in lags:
        for d in range(recording.inputs.shape[-1]):
            y = torch.stack([recording.inputs[t - lag, b, d] for t, b, _ in rows]).double()
            y = y / y.std(correction=0)
            error = total = 0.0
            for f in range(folds):
                inner = {
                    penalty: sum(
                        sse(y, (fold != f) & (fold != g), fold == g, penalty)[0]
                        for g in range(folds)
                        if g != f
                    )
                    for penalty in PENALTIES
                }
                best = min(inner, key=inner.get)
                e, v = sse(y, fold != f, fold == f, best)
                error, total = error + e, total + v
            found.append(1 - error / total)
    return torch.tensor(found, dtype=torch.float64).reshape(len(lags), -1)


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_equals_one_regression_after_another(kind):
    model = getattr(nn, kind)(2, 4, dtype=torch.float64)
    x = torch.randn(14, 9, 2, dtype=torch.float64)
    packed = nn.utils.rnn.pack_padded_sequence(
        x, torch.tensor([14, 9, 14, 3, 12, 7, 14, 10, 11]), enforce_sorted=False
    )
    recording = record(model, lambda: model(packed)[0].data.sum())
    lags = [0, 1, 4]
    decoding = memory_decoding(recording, lags=lags, folds=4, permutations=1, seed=5)
    expected = naive(recording, lags, 4, 5)
    torch.testing.assert_close(decoding.r2, expected, rtol=1e-6, atol=1e-8)
    assert decoding.samples == 10 + 5 + 10 + 8 + 3 + 10 + 6 + 7


def test_more_units_than_samples():
    model = nn.GRU(1, 40)
    decoding = memory_decoding(recorded(model, torch.randn(8, 6, 1)), lags=[0, 3], folds=3)
    assert decoding.r2.isfinite().all()
    assert decoding.r2[0, 0] > 0.5


def test_the_null_level_is_what_chance_stays_below():
    """Targets that have nothing to do with the states: about 5 % are above it."""
    model, x = nn.GRU(1, 10), torch.randn(30, 20, 1)
    recording = recorded(model, x)
    noise = torch.randn(30, 20, 100)
    decoding = memory_decoding(recording, lags=[0], targets=noise, permutations=10)
    above = (decoding.r2[0] > decoding.null_level[0]).double().mean()
    assert 0.01 < above < 0.12
    assert decoding.r2.shape == (1, 100)


def test_a_slow_target_does_not_leak_between_folds():
    """One number for each sequence, which no state knows, is not decoded from neighbours in time.

    Dealing steps into folds would decode it nearly perfectly from a slow state.
    """
    model = linear(20, torch.eye(20))  # integrates: each sequence has a place of its own
    with torch.no_grad():
        model.weight_ih_l0.copy_(torch.randn(20, 1))
    x = torch.zeros(40, 12, 1, dtype=torch.float64)
    x[0] = torch.randn(12, 1)
    model_state = torch.randn(1, 12, 20, dtype=torch.float64)
    recording = record(model, lambda: model(x, model_state)[0].sum())
    constant = torch.randn(12, 1, dtype=torch.float64).expand(40, 12, 1)
    decoding = memory_decoding(recording, lags=[5], targets=constant, permutations=10)
    assert decoding.r2[0, 0] < 0.5


def test_given_targets_and_those_that_do_not_vary():
    model = linear(3, torch.diag(torch.ones(2), -1))
    x = torch.randn(30, 20, 1, dtype=torch.float64)
    targets = torch.cat([2 * x + 100, torch.full_like(x, 0.1)], -1)
    decoding = memory_decoding(recorded(model, x), lags=[0, 2], targets=targets)
    torch.testing.assert_close(decoding.r2[:, 0], torch.ones(2).double())
    assert decoding.r2[:, 1].isnan().all()
    assert decoding.capacity == pytest.approx(2)


def test_padding_is_not_read_and_few_samples_are_drawn_from_all_sequences():
    model = tt.GRU(1, 6)
    x = torch.randn(30, 12, 1)
    x[20:, 3] = math.nan
    recording = recorded(model, x, lengths=[30, 30, 30, 20, *[30] * 8])
    decoding = memory_decoding(recording, lags=range(4), samples=200, permutations=2)
    assert decoding.samples == 200
    assert decoding.r2.isfinite().all()
    assert memory_decoding(recording, lags=[0], samples=1).samples == 12


def test_chunked_calls_are_one_run():
    model, x = nn.LSTM(1, 5, dtype=torch.float64), torch.randn(20, 10, 1, dtype=torch.float64)

    def in_chunks():
        state, total = None, 0.0
        for part in x.split(6):
            y, state = model(part, state)
            total = total + y.sum()
        return total

    whole = memory_decoding(recorded(model, x), lags=[0, 7], permutations=2)
    chunked = memory_decoding(record(model, in_chunks), lags=[0, 7], permutations=2)
    torch.testing.assert_close(whole.r2, chunked.r2)


def test_nothing_is_changed_and_seeds_repeat():
    model = nn.LSTM(1, 5)
    recording = recorded(model, torch.randn(20, 10, 1))
    random, states = torch.get_rng_state(), recording.states.h.clone()
    a, b, c = (memory_decoding(recording, lags=[0, 2], permutations=2, seed=s) for s in (0, 0, 1))
    assert torch.equal(a.r2, b.r2)
    assert torch.equal(a.null_level, b.null_level)
    assert not torch.equal(a.r2, c.r2)
    assert torch.equal(torch.get_rng_state(), random)
    assert torch.equal(recording.states.h, states)


def test_bad_arguments():
    x = torch.randn(20, 10, 1)
    recording = recorded(nn.GRU(1, 5), x)
    cases = [
        ({"lags": []}, "lags"),
        ({"lags": [-1]}, "lags"),
        ({"lags": [20]}, "0 sequences longer than 20 steps"),
        ({"lags": [1], "folds": 2}, "folds=2"),
        ({"lags": [1], "folds": 11}, "10 sequences longer"),
        ({"lags": [1], "penalties": []}, "penalties"),
        ({"lags": [1], "penalties": [0.0]}, "penalties"),
        ({"lags": [1], "permutations": 0}, "permutations=0"),
        ({"lags": [1], "targets": torch.zeros(20, 9, 1)}, "targets"),
        ({"lags": [1], "targets": torch.full((20, 10, 1), math.inf)}, "not finite"),
    ]
    for options, words in cases:
        with pytest.raises(errors.ConfigurationError, match=words):
            memory_decoding(recording, **options)
