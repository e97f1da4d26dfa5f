"""Draws of items, active units and mutual information."""

import math

import torch

from throughtime.core.gaussian import DiagonalGaussian
from throughtime.core.latent import Draws, Latents, active_units, mutual_information

LIKE = torch.zeros(1).double()


def latents(mean: torch.Tensor, deviation: float = 1.0, prior: float = 0.0) -> Latents:
    one = torch.ones_like(mean)
    return Latents(DiagonalGaussian(mean, deviation * one), DiagonalGaussian(prior * one, one))


def test_numbers_of_an_item_do_not_depend_on_the_batch():
    seeds = torch.tensor([5, 6, 7])
    whole = Draws(seeds, 3, LIKE).normal(9, 2)
    for row in range(3):
        assert torch.equal(Draws(seeds[row : row + 1], 1, LIKE).normal(9, 2)[0], whole[row])
    assert torch.equal(Draws(seeds, 3, LIKE).normal(4, 2), whole[:, :4])
    assert torch.equal(Draws(seeds, 3, LIKE).uniform(40), Draws(seeds, 3, LIKE).uniform(90)[:, :40])


def test_a_generator_gives_each_item_a_seed():
    random = torch.Generator().manual_seed(3)
    whole = Draws(random, 3, LIKE).normal(2)
    random.manual_seed(3)
    apart = [Draws(random, 1, LIKE).normal(2) for _ in range(3)]
    assert torch.equal(torch.cat(apart), whole)
    assert len(Draws(random, 0, LIKE).normal(2)) == 0


def test_normal_numbers_are_normal():
    for random in (None, torch.arange(200)):
        torch.manual_seed(0)
        z = Draws(random, 200, LIKE).normal(500)
        assert abs(float(z.mean())) < 5 / math.sqrt(z.numel())
        assert abs(float(z.var()) - 1) < 5 * math.sqrt(2 / z.numel())
        assert abs(float((z > 1).double().mean()) - 0.158655) < 0.006


def test_active_units_are_those_whose_mean_varies_beyond_the_prior():
    generator = torch.Generator().manual_seed(0)
    mean = torch.randn(4000, 3, generator=generator).double() * torch.tensor([1.0, 0.12, 0.08])
    assert active_units(latents(mean)) == 2
    varying = DiagonalGaussian(mean, torch.ones_like(mean))
    assert active_units(Latents(varying, varying)) == 0
    assert active_units(latents(mean[:1])) == 0


def test_mutual_information_of_a_gaussian_channel():
    """z = x + noise with x ~ N(0, v): I = ln(1 + v) / 2."""
    x = torch.randn(1024, 1, generator=torch.Generator().manual_seed(5)).double()
    for variance in (0.0, 0.5, 3.0):
        found = mutual_information(latents(x * math.sqrt(variance)))
        assert abs(found - 0.5 * math.log1p(variance)) < 0.06
    assert mutual_information(latents(x[:0])) == 0


def test_mutual_information_does_not_depend_on_the_prior_s_units():
    x = torch.randn(300, 2, generator=torch.Generator().manual_seed(0)).double()
    plain = mutual_information(latents(x, 0.5))
    one = torch.ones_like(x)
    moved = Latents(DiagonalGaussian(7 + 3 * x, 1.5 * one), DiagonalGaussian(7 * one, 3 * one))
    assert abs(mutual_information(moved) - plain) < 1e-9
