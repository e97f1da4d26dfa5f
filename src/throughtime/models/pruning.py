"""Tests of the inputs that a conditional probability depends on, and pruning of the others."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Num
from torch import Tensor

from throughtime.core.errors import ConfigurationError
from throughtime.models.binary_density import BinaryDensity
from throughtime.models.masked_densities import GroupedNetwork


class Dependence(NamedTuple):
    """Dependence of each input on each earlier one, given all other earlier ones.

    Attributes:
        gain: mean gain in nats; 0 at (i, j) where input j does not come before input i.
        error: standard error of the gain; NaN for a single vector.
    """

    gain: Float[Tensor, "inputs inputs"]
    error: Float[Tensor, "inputs inputs"]

    def found(self, level: float) -> Bool[Tensor, "inputs inputs"]:
        """Return True where the gain is above 0 by a one-sided normal test.

        Arguments:
            level: probability that the test finds a dependence where there is none, in (0, 0.5).
        """
        quantile = torch.special.ndtri(torch.tensor(1 - level, dtype=self.gain.dtype))
        return (self.gain > 0) & (self.gain > quantile.to(self.gain.device) * self.error)


@torch.no_grad()
def dependence(model: BinaryDensity, x: Num[Tensor, "batch *item"]) -> Dependence:
    """Return the gain in the log-probability of each input by each earlier one.

        gain_ij = mean of log p(x_i | x_{<i}) - log p(x_i | x_{<i} without x_j)
        p(x_i | x_{<i} without x_j) = sum_v p(v | x_{<i} without x_j) p(x_i | x_{<i}, x_j = v)

    The sum is over both values of x_j, with the model's own probabilities. So the gain is an
    estimate of the mutual information of x_i and x_j, given the other inputs before x_i. If they
    are independent given those, its expectation on new vectors is at most 0, also where the model
    has learned a dependence by chance (Jensen's inequality, for a model that is right about x_j).

    The cost is that of a log-probability for each input.

    Arguments:
        model: trained model of one ordering.
        x: vectors of zeros and ones on which it was not trained.

    Raises:
        ConfigurationError: several orderings, or a value other than 0 and 1.
        ShapeError: vectors of another size.

    Example:
        >>> from throughtime.models import FVSBN
        >>> from throughtime.tasks.kinds import Pixels
        >>> model = FVSBN(Pixels(1, 2))
        >>> model.weight.data[1, 0], model.bias.data[1] = 200, -100  # the second is the first
        >>> x = torch.tensor([[0, 0], [1, 1]])
        >>> dependence(model, x).gain
        tensor([[0.0000, 0.0000],
                [0.6931, 0.0000]], dtype=torch.float64)
    """
    if len(model.orderings) != 1:
        raise ConfigurationError(
            "a test of dependence", got=f"{len(model.orderings)} orderings", expected="one"
        )
    ordering = model.orderings[0]
    vectors = model.vectors(x)
    given = _log_conditionals(model, vectors)
    size, n = model.size, len(vectors)
    gain, error = given.new_zeros(size, size), given.new_zeros(size, size)
    for position, place in enumerate(ordering[:-1].tolist()):
        other = vectors.clone()
        other[:, place] = 1 - other[:, place]
        turned = _log_conditionals(model, other)
        change = turned - given
        ratio = change.cumsum(1) - change  # of the earlier inputs: x_j turned, to as it is
        without = torch.logaddexp(F.logsigmoid(-ratio) + given, F.logsigmoid(ratio) + turned)
        each = (given - without)[:, position + 1 :]
        later = ordering[position + 1 :]
        gain[later, place] = each.mean(0)
        error[later, place] = each.std(0) / n**0.5 if n > 1 else torch.nan
    return Dependence(gain, error)


def prune(
    model: GroupedNetwork, x: Num[Tensor, "batch *item"], *, level: float = 0.001
) -> Bool[Tensor, "inputs inputs"]:
    """Remove the connections of inputs on which a conditional does not depend, by `dependence`.

    The weights that stay are as they were: train on.

    Arguments:
        model: trained model of one ordering; it is changed.
        x: vectors of zeros and ones on which it was not trained.
        level: probability that a test keeps an input that has no influence, in (0, 0.5).

    Returns:
        True at (i, j) where the probability of input i depends on input j.

    Raises:
        ConfigurationError: a level out of range, fewer than two vectors, several orderings, or a
            value other than 0 and 1.
        ShapeError: vectors of another size.

    Example:
        >>> from throughtime.tasks.kinds import Pixels
        >>> _ = torch.manual_seed(0)
        >>> model = GroupedNetwork(Pixels(1, 3), 2)
        >>> int(prune(model, torch.ones(4, 3)).sum()) <= 3
        True

    Source:
        Bengio and Bengio 1999, Modeling high-dimensional discrete data with multi-layer neural
        networks.

    Differs from the paper in:
        the paper, too, prunes by tests of dependence; its statistic was not at hand. The gain, its
        normal test, and the level of each test are our choice.
    """
    if not 0 < level < 0.5:
        raise ConfigurationError("level", got=level, expected="above 0 and below 0.5")
    if len(x) < 2:
        raise ConfigurationError("x", got=f"{len(x)} vectors", expected="2 or more")
    kept = dependence(model, x).found(level) & model.kept
    model.kept.copy_(kept)
    return kept


def _log_conditionals(
    model: BinaryDensity, x: Float[Tensor, "batch inputs"]
) -> Float[Tensor, "batch inputs"]:
    """Return the log-probability of each input in the order of the model."""
    ordering = model.orderings[0]
    z = model.logits(x, ordering).double()
    each = -F.binary_cross_entropy_with_logits(z, x.double(), reduction="none")
    return each[:, ordering]
