"""Gaussian variables with independent elements: draws, log-probabilities, KL divergences."""

import math
from typing import NamedTuple

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

_LEAST_DEVIATION = 1e-4  # as in the VRNN's published code


def deviation_of(raw: Float[Tensor, "*any"]) -> Float[Tensor, "*any"]:
    """Return softplus(raw) + 0.0001, a standard deviation.

    Without a least value, the density of an output has no upper bound.

    Arguments:
        raw: Outputs of a layer without nonlinearity.
    """
    return F.softplus(raw) + _LEAST_DEVIATION


class DiagonalGaussian(NamedTuple):
    """The law of a vector with independent Gaussian elements.

        log N(z; mean, deviation) = -sum_i [log deviation_i + log(2 pi) / 2 + e_i^2 / 2]
        e = (z - mean) / deviation
        KL(q || p) = sum_i [log(sp_i / sq_i) + (sq_i^2 + (mq_i - mp_i)^2) / (2 sp_i^2) - 1 / 2]

    Arguments:
        mean: Mean of each element.
        deviation: Standard deviation of each element, above 0.

    Example:
        >>> import torch
        >>> prior = DiagonalGaussian(torch.zeros(2), torch.ones(2))
        >>> posterior = DiagonalGaussian(torch.tensor([1.0, 0.0]), torch.ones(2))
        >>> posterior.kl(prior), prior.kl(prior)
        (tensor(0.5000), tensor(0.))
    """

    mean: Float[Tensor, "*leading width"]
    deviation: Float[Tensor, "*leading width"]

    @classmethod
    def from_outputs(cls, outputs: Float[Tensor, "*leading double"]) -> "DiagonalGaussian":
        """Return the law whose mean is the first half of a layer's outputs.

        The deviation is softplus(second half) + 0.0001.

        Arguments:
            outputs: Outputs of a layer without nonlinearity, twice as wide as the variable.
        """
        mean, raw = outputs.chunk(2, -1)
        return cls(mean, deviation_of(raw))

    def at(self, noise: Float[Tensor, "*more width"]) -> Float[Tensor, "*more width"]:
        """Return mean + deviation * noise: a draw, if the noise is a standard Gaussian's.

        Arguments:
            noise: Noise, with any further leading axes.
        """
        return self.mean + self.deviation * noise

    def log_prob(self, z: Float[Tensor, "*more width"]) -> Float[Tensor, "*more"]:
        """Return the natural logarithm of the density at z.

        Arguments:
            z: Vectors, with any further leading axes.
        """
        scaled = (z - self.mean) / self.deviation
        return -(self.deviation.log() + 0.5 * math.log(2 * math.pi) + 0.5 * scaled.square()).sum(-1)

    def kl(self, other: "DiagonalGaussian") -> Float[Tensor, "*leading"]:
        """Return the KL divergence of this law from another one, in nats.

        Arguments:
            other: The law in the second place: the prior, where this one is a posterior.
        """
        ratio = self.deviation / other.deviation
        distance = (self.mean - other.mean) / other.deviation
        return (0.5 * (ratio.square() + distance.square() - 1) - ratio.log()).sum(-1)
