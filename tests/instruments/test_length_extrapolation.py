"""Loss against length: the test's level, its power, and a network that drifts."""

import itertools
import math

import pytest
import torch
from torch import nn

import throughtime as tt
from throughtime import errors
from throughtime.instruments.length_extrapolation import length_extrapolation

IDLE = nn.Linear(1, 1)


def noisy(excess):
    """A loss of 1 and noise, larger by `excess` for each length."""
    return lambda length: 1 + 0.1 * torch.randn(()) + excess.get(length, 0.0)


def test_the_first_length_that_exceeds_is_found():
    result = length_extrapolation(
        IDLE, noisy({40: 0.5, 80: 2.0}), (40, 5, 80, 20, 10), repeats=8, trained=10
    )
    assert result.lengths == (5, 10, 20, 40, 80)
    assert result.losses.shape == (5, 8)
    assert result.losses.dtype == torch.float64
    assert result.exceeds_at == 40
    torch.testing.assert_close(result.mean, result.losses.sum(1) / 8)
    torch.testing.assert_close(result.spread, result.losses.std(1))
    torch.testing.assert_close(result.ratio, result.mean / result.mean[1])
    # all losses of the group above all of the other: one division in (16 choose 8)
    assert float(result.p_values[4]) == pytest.approx(1 / math.comb(16, 8))
    assert result.p_values[1].isnan()


def test_shorter_lengths_are_measured_and_never_named():
    result = length_extrapolation(IDLE, noisy({2: 5.0, 4: 5.0}), (2, 4, 16), trained=8)
    assert result.exceeds_at is None
    assert float(result.p_values[0]) < 1e-3


@pytest.mark.parametrize("repeats", [5, 9])
def test_p_values_are_those_of_all_divisions(repeats):
    result = length_extrapolation(IDLE, noisy({20: 0.05}), (20,), repeats, trained=10, seed=3)
    reference, losses = result.losses.tolist()
    pooled = losses + reference
    if repeats < 9:
        sums = [sum(g) for g in itertools.combinations(pooled, repeats)]
    else:
        order = torch.rand(40_000, 2 * repeats).argsort(1)[:, :repeats]
        sums = torch.tensor(pooled, dtype=torch.float64)[order].sum(1).tolist()
    expected = sum(s >= sum(losses) - 1e-9 for s in sums) / len(sums)
    assert float(result.p_values[1]) == pytest.approx(expected, abs=0.02 if repeats > 8 else 1e-12)


def test_the_level_is_kept_where_nothing_changes():
    named = sum(
        length_extrapolation(
            IDLE, noisy({}), (20, 40, 80), repeats=6, trained=10, level=0.1, seed=seed
        ).exceeds_at
        is not None
        for seed in range(100)
    )
    assert named <= 10 + 3 * math.sqrt(100 * 0.1 * 0.9)


def test_a_unit_that_grows_is_found_and_one_that_holds_is_not():
    """h_t = w h_{t-1} from h_0 = x: the loss (h_T - x)^2 is exactly (w^T - 1)^2 x^2."""
    model = tt.RNN(1, 1, nonlinearity="identity", bias=False, engine="eager", dtype=torch.float64)

    def loss_at(length):
        h = torch.randn(1, 64, 1, dtype=torch.float64)
        outputs, _ = model(torch.zeros(length, 64, 1, dtype=torch.float64), h)
        return (outputs[-1] - h[0]).square().mean()

    for w, expected in ((1.0, None), (1.05, 16)):
        with torch.no_grad():
            model.weight_hh_l0.fill_(w)
        result = length_extrapolation(model, loss_at, (8, 16, 32), trained=8)
        assert result.exceeds_at == expected
        scale = (w ** torch.tensor(result.lengths, dtype=torch.float64) - 1).square()
        torch.testing.assert_close(result.mean, scale, rtol=0.3, atol=0)


def test_losses_that_are_not_finite_exceed():
    result = length_extrapolation(IDLE, noisy({20: math.inf}), (20, 40), trained=10)
    assert result.exceeds_at == 20
    result = length_extrapolation(IDLE, noisy({10: math.nan}), (20, 40), trained=10)
    assert result.exceeds_at is None


def test_nothing_is_changed_and_the_seed_decides():
    model = nn.Sequential(nn.GRU(1, 3), nn.Identity())
    model.train()
    modes, random = [], torch.get_rng_state()

    def loss_at(length):
        modes.append(model.training or torch.is_grad_enabled())
        return model[0](torch.randn(length, 2, 1))[0].square().mean()

    results = [
        length_extrapolation(model, loss_at, (4, 8), 5, trained=2, seed=s) for s in (0, 0, 1)
    ]
    assert torch.equal(results[0].losses, results[1].losses)
    assert not torch.equal(results[0].losses, results[2].losses)
    assert torch.equal(torch.get_rng_state(), random)
    assert model.training
    assert not any(modes)


def test_bad_arguments():
    cases = [
        ({"lengths": (0,), "trained": 5}, "lengths of at least 1"),
        ({"lengths": (9,), "trained": 5, "repeats": 1}, "repeats of at least 2"),
        ({"lengths": (9,), "trained": 5, "level": 0.0}, "a level in"),
        ({"lengths": (9, 10, 11), "trained": 5, "repeats": 3}, "more repeats"),
    ]
    for arguments, words in cases:
        with pytest.raises(errors.ConfigurationError, match=words):
            length_extrapolation(IDLE, noisy({}), **arguments)
    with pytest.raises(errors.ConfigurationError, match="a scalar tensor"):
        length_extrapolation(IDLE, lambda length: torch.zeros(length), (9,), trained=5)
