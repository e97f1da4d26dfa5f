"""Laws with independent Gaussian elements, against torch.distributions and against draws."""

import math

import torch
from torch.distributions import Independent, Normal, kl_divergence

from throughtime.core.gaussian import DiagonalGaussian


def _laws() -> tuple[DiagonalGaussian, DiagonalGaussian]:
    random = torch.Generator().manual_seed(0)
    draws = [torch.randn(4, 3, generator=random, dtype=torch.float64) for _ in range(4)]
    return (
        DiagonalGaussian(draws[0], draws[1].exp()),
        DiagonalGaussian(draws[2], draws[3].exp()),
    )


def _torch(law: DiagonalGaussian) -> Independent:
    return Independent(Normal(law.mean, law.deviation), 1)


def test_log_probabilities_and_divergences_are_those_of_torch() -> None:
    one, other = _laws()
    z = one.at(torch.ones(5, 4, 3, dtype=torch.float64))
    torch.testing.assert_close(one.log_prob(z), _torch(one).log_prob(z))
    torch.testing.assert_close(one.kl(other), kl_divergence(_torch(one), _torch(other)))
    assert not one.kl(one).abs().gt(1e-12).any()
    assert (one.kl(other) > 0).all()


def test_the_divergence_is_the_mean_of_log_ratios() -> None:
    one, other = _laws()
    random = torch.Generator().manual_seed(1)
    z = one.at(torch.randn(200_000, 4, 3, generator=random, dtype=torch.float64))
    ratios = one.log_prob(z) - other.log_prob(z)
    error = ratios.std(0) / math.sqrt(len(ratios))
    assert ((ratios.mean(0) - one.kl(other)).abs() < 5 * error).all()


def test_outputs_of_a_layer_are_means_and_deviations() -> None:
    law = DiagonalGaussian.from_outputs(torch.tensor([[1.0, -2.0, 0.0, -200.0]]))
    assert law.mean.tolist() == [[1.0, -2.0]]
    torch.testing.assert_close(law.deviation, torch.tensor([[math.log(2) + 1e-4, 1e-4]]))
    assert law.kl(law).isfinite().all()
