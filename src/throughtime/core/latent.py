"""Latent variables: draws, divergences, and numbers that show if a model uses them."""

import math
from collections.abc import Sequence
from typing import NamedTuple, TypeAlias, final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from throughtime.core.gaussian import DiagonalGaussian

Random: TypeAlias = torch.Generator | Int[Tensor, " batch"] | None
"""A source of random numbers: a generator on the CPU, a seed for each item, or None for torch's
own generator."""

_ACTIVE = 0.01  # the least variance of an active unit (Burda et al. 2016)
_MOST_ROWS = 1024  # of the estimate of the mutual information, whose cost grows with their square


@final
class Draws:
    """Random numbers of the items of a batch, each with a generator of its own.

    The numbers of an item do not depend on the items around it. With torch's own generator, the
    numbers of all items are drawn together, which is faster.

    Arguments:
        random: Source of the numbers. A generator gives one seed to each item.
        count: Number of items.
        like: Tensor whose dtype and device the numbers have.

    Example:
        >>> like = torch.zeros(1)
        >>> one, two = torch.tensor([7]), torch.tensor([7, 8])
        >>> torch.equal(Draws(one, 1, like).normal(3)[0], Draws(two, 2, like).normal(3)[0])
        True
    """

    def __init__(self, random: Random, count: int, like: Tensor):
        if isinstance(random, torch.Generator):
            random = torch.randint(2**62, (count,), generator=random)
        self._generators: Sequence[torch.Generator] | None = None
        if random is not None:
            self._generators = [torch.Generator().manual_seed(s) for s in random.tolist()]
        self._count, self._like = count, like

    def uniform(self, *shape: int) -> Float[Tensor, "count *shape"]:
        """Return numbers in [0, 1), (count, *shape).

        A longer first axis of `shape` begins with the numbers of a shorter one.

        Arguments:
            shape: Axes of the numbers of each item.
        """
        if self._generators is None:
            return torch.rand(self._count, *shape, dtype=self._like.dtype, device=self._like.device)
        return self._each(shape).to(self._like)

    def normal(self, *shape: int) -> Float[Tensor, "count *shape"]:
        """Return numbers of the standard normal law, (count, *shape).

        A longer first axis of `shape` begins with the numbers of a shorter one.

        Arguments:
            shape: Axes of the numbers of each item.
        """
        if self._generators is None:
            return torch.randn(
                self._count, *shape, dtype=self._like.dtype, device=self._like.device
            )
        # torch.randn gives other numbers where fewer are drawn; the uniform ones begin alike
        return torch.special.ndtri(self._each(shape).clamp(min=2.0**-54)).to(self._like)

    def _each(self, shape: tuple[int, ...]) -> Tensor:
        assert self._generators is not None
        if not self._generators:
            return torch.zeros(0, *shape, dtype=torch.float64)
        return torch.stack(
            [torch.rand(shape, generator=g, dtype=torch.float64) for g in self._generators]
        )


class Latents(NamedTuple):
    """Laws of latent variables.

    Attributes:
        posterior: q(z | x).
        prior: p(z).
    """

    posterior: DiagonalGaussian
    prior: DiagonalGaussian

    def shift(self) -> Float[Tensor, "*rows latent"]:
        """Return the posterior's mean, measured from the prior's in units of its deviation."""
        return (self.posterior.mean - self.prior.mean) / self.prior.deviation

    @staticmethod
    def joined(parts: Sequence["Latents"]) -> "Latents":
        """Return the rows of several in one.

        Arguments:
            parts: Latent variables, (row, latent).
        """
        fields = zip(*((*each.posterior, *each.prior) for each in parts), strict=True)
        mean, deviation, prior_mean, prior_deviation = (torch.cat(field) for field in fields)
        posterior = DiagonalGaussian(mean, deviation)
        return Latents(posterior, DiagonalGaussian(prior_mean, prior_deviation))


def active_units(latents: Latents) -> int:
    """Return the number of latent units whose posterior mean varies with the data.

    A unit is active where the variance of its posterior mean over the rows is above 0.01. The mean
    is measured from the prior's, in units of the prior's deviation: a prior that varies does not
    make a unit active. With the prior N(0, 1) this is the definition of the source.

    Arguments:
        latents: Latent variables of many items or steps, (row, latent).

    Example:
        >>> mean, one = torch.tensor([[0.0, 1.0], [0.0, -1.0]]), torch.ones(2, 2)
        >>> active_units(Latents(DiagonalGaussian(mean, one), DiagonalGaussian(0 * one, one)))
        1

    Source:
        Burda, Grosse and Salakhutdinov 2016, Importance weighted autoencoders.
    """
    shift = latents.shift().double()
    return int((shift.var(0) > _ACTIVE).sum()) if len(shift) > 1 else 0


def mutual_information(latents: Latents, seed: int = 0) -> float:
    """Return an estimate of the information in nats that a latent variable has about its row.

        I = E [ln q(z | x) - ln 1/N sum_j q(z | x_j)]

    z is measured from the prior's mean, in units of the prior's deviation. The mean is over at most
    1,024 rows, evenly spread, with one draw of z each. So I is at most ln 1024 = 6.9.

    Arguments:
        latents: Latent variables of many items or steps, (row, latent).
        seed: Seed of the draws.

    Example:
        >>> apart, one = torch.tensor([[-100.0], [100.0]]), torch.ones(2, 1)
        >>> latents = Latents(DiagonalGaussian(apart, one), DiagonalGaussian(0 * one, one))
        >>> round(mutual_information(latents), 4)
        0.6931

    Source:
        Hoffman and Johnson 2016, ELBO surgery.
    """
    count = len(latents.shift())
    if count == 0:
        return 0.0
    kept = torch.arange(min(count, _MOST_ROWS)) * count // min(count, _MOST_ROWS)
    ratio = latents.posterior.deviation / latents.prior.deviation
    mean, scale = (t.detach().double().cpu()[kept] for t in (latents.shift(), ratio))
    noise = torch.randn(mean.shape, generator=torch.Generator().manual_seed(seed)).to(mean)
    z, precision = mean + scale * noise, scale.square().reciprocal()
    squares = (
        z.square() @ precision.T
        - 2 * z @ (mean * precision).T
        + (mean.square() * precision).sum(-1)
    )
    log_q = -0.5 * squares - scale.log().sum(-1)  # of z_i under row j; constants cancel
    own = log_q.diagonal()
    return float((own - log_q.logsumexp(-1) + math.log(len(kept))).mean())
