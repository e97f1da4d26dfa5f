"""The distribution of the gradient's norm: values, tails, clipping."""

import math

import pytest
import torch
from torch import nn

from throughtime import errors
from throughtime.instruments.gradient_flow import GradientNorms, gradient_norms


def test_norms_of_a_linear_model_are_those_of_its_inputs():
    model = nn.Linear(7, 1, bias=False)
    batches = [torch.randn(7) * 10**k for k in range(5)]
    norms = gradient_norms(model, [lambda x=x: model(x).sum() for x in batches])
    torch.testing.assert_close(norms.norm, torch.stack([x.double().norm() for x in batches]))
    torch.testing.assert_close(norms.loss.float(), torch.stack([model(x)[0] for x in batches]))
    assert norms.norm.dtype == torch.float64
    assert (norms.batches, norms.not_finite) == (5, 0)
    total = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    assert total == 0  # no gradient was left behind


def test_random_numbers_go_on_from_batch_to_batch():
    model = nn.GRU(2, 3)
    norms = gradient_norms(model, [lambda: model(torch.randn(4, 2, 2))[0].sum()] * 4)
    assert len(set(norms.norm.tolist())) == 4


def of(values):
    values = torch.tensor(values, dtype=torch.float64)
    return GradientNorms(norm=values, loss=torch.zeros_like(values))


def test_quantiles_and_the_tail():
    norms = of([*range(1, 100), 1000.0, math.inf, math.nan])
    assert norms.not_finite == 2
    assert norms.quantiles((0, 0.5, 1)) == [1, 50.5, 1000]
    assert norms.tail_ratio == 1000 / 50.5
    assert of([math.nan]).quantiles()[0] != of([math.nan]).quantiles()[0]
    assert math.isnan(of([math.inf]).tail_ratio)
    assert math.isnan(of([0.0, 0.0, 1.0]).tail_ratio)


@pytest.mark.parametrize("alpha", [0.8, 1.5, 3.0])
def test_the_tail_index_of_a_power_law(alpha):
    """Quantiles of P(X > x) = x^-alpha; Hill's estimator is biased by 1/k at most."""
    p = (torch.arange(5000, dtype=torch.float64) + 0.5) / 5000
    values = (p ** (-1 / alpha))[torch.randperm(5000)].tolist()
    for fraction in (0.05, 0.2):
        assert of(values).tail_index(fraction) == pytest.approx(alpha, rel=0.01)


def test_there_is_no_tail_index_without_a_tail():
    assert of([1.0] * 500).tail_index() is None
    assert of(range(1, 91)).tail_index() is None  # nine in the tail
    assert of(range(1, 101)).tail_index() is not None
    assert of([0.0] * 500).tail_index() is None
    # an exponential tail is lighter than any power: the estimate grows as the tail shrinks
    p = (torch.arange(20000, dtype=torch.float64) + 0.5) / 20000
    values = (-p.log()).tolist()
    assert of(values).tail_index(0.01) > of(values).tail_index(0.1) > 2
    with pytest.raises(errors.ConfigurationError, match="fraction"):
        of([1.0]).tail_index(1.0)


def test_clipping():
    norms = of([5.0, 1.0, 4.0, 2.0, 3.0, math.nan, math.inf, 0.5, 2.5, 3.5])
    assert norms.clip_rate(3.0) == 0.5  # 5, 4, 3.5 and the two that are not finite
    assert norms.clip_rate(math.inf) == 0.1
    assert norms.threshold_for(0.5) == 3.0
    assert norms.threshold_for(0.19) == math.inf
    assert norms.threshold_for(0.2) == 5.0
    assert norms.threshold_for(1.0) == 0.0
    for rate in (0.2, 0.3, 0.55, 0.9):
        threshold = norms.threshold_for(rate)
        assert norms.clip_rate(threshold) <= rate
        assert norms.clip_rate(threshold - 1e-9) > rate  # it is the smallest
    with pytest.raises(errors.ConfigurationError, match="rate"):
        norms.threshold_for(1.1)


def test_gradients_that_are_not_finite_are_counted():
    model = nn.Linear(1, 1)
    scales = (1.0, math.inf, math.nan, 2.0)
    norms = gradient_norms(model, [lambda s=s: (model.weight * s).sum() for s in scales])
    assert norms.not_finite == 2
    assert norms.norm[[0, 3]].tolist() == [1, 2]
    assert norms.norm[1] == math.inf
    assert norms.norm[2].isnan()


def test_bad_batches():
    model = nn.Linear(2, 2)
    with pytest.raises(errors.ConfigurationError, match="got none"):
        gradient_norms(model, [])
    with pytest.raises(errors.ConfigurationError, match="scalars that depend"):
        gradient_norms(model, [lambda: model(torch.ones(2))])
    with pytest.raises(errors.ConfigurationError, match="no trained parameters"):
        gradient_norms(model.requires_grad_(False), [lambda: model(torch.ones(2)).sum()])
