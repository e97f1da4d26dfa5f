"""Models that are distributions: their protocols."""

from typing import NamedTuple, Protocol, runtime_checkable

from jaxtyping import Float, Int
from torch import Tensor

from throughtime.core.latent import Latents, Random


@runtime_checkable
class Density(Protocol):
    """A model with an exact probability of its input.

    Vectors and images are (batch, ...); sequences of frames are (time, batch, width) with lengths.
    """

    def log_prob(
        self, x: Tensor, lengths: Int[Tensor, " batch"] | None = None
    ) -> Float[Tensor, " batch"]:
        """Return the natural logarithm of the probability of each item.

        Arguments:
            x: The items.
            lengths: Frames of each sequence, at least 1; None for all, and for items that have no
                axis of time.
        """
        ...


class Bound(NamedTuple):
    """A lower bound of the log-likelihood of each item: reconstruction - kl.

    Attributes:
        reconstruction: log p(x | z) for z drawn from the posterior, in nats, summed over time.
        kl: KL divergence of the posterior from the prior, in nats, summed over time.
    """

    reconstruction: Float[Tensor, " batch"]
    kl: Float[Tensor, " batch"]


@runtime_checkable
class LatentDensity(Protocol):
    """A model with latent variables: a bound and an estimate of its log-likelihood."""

    def bound(
        self,
        x: Tensor,
        lengths: Int[Tensor, " batch"] | None = None,
        *,
        random: Random = None,
    ) -> Bound:
        """Return the bound of each item, from one draw of the latent variables.

        Arguments:
            x: The items.
            lengths: Frames of each sequence; None for all.
            random: Source of the random numbers: a generator on the CPU, a seed for each item, or
                None for torch's own generator.
        """
        ...

    def importance_weighted(
        self,
        x: Tensor,
        lengths: Int[Tensor, " batch"] | None = None,
        *,
        samples: int,
        random: Random = None,
    ) -> Float[Tensor, " batch"]:
        """Return log mean_k p(x, z_k) / q(z_k | x); with one sample, a draw of the bound.

        Arguments:
            x: The items.
            lengths: Frames of each sequence; None for all.
            samples: Number of draws of the latent variables of each item.
            random: Source of the random numbers: a generator on the CPU, a seed for each item, or
                None for torch's own generator.
        """
        ...


@runtime_checkable
class LatentLaws(Protocol):
    """A model whose posterior and prior can be compared."""

    def latents(
        self,
        x: Tensor,
        lengths: Int[Tensor, " batch"] | None = None,
        *,
        random: Random = None,
    ) -> Latents:
        """Return posterior and prior of all latent variables, one a row, without those of padding.

        Arguments:
            x: The items.
            lengths: Frames of each sequence; None for all.
            random: Source of the random numbers: a generator on the CPU, a seed for each item, or
                None for torch's own generator.
        """
        ...
