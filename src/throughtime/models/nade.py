"""NADE: hidden units with shared weights, whose sums grow by one input at a time."""

import math
from collections.abc import Iterator
from typing import final

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from throughtime.core.errors import ConfigurationError
from throughtime.engines.autoregression import autoregression
from throughtime.models.binary_density import BinaryDensity, earlier
from throughtime.tasks.kinds import Pixels


@final
class NADE(BinaryDensity):
    """The neural autoregressive distribution estimator.

        a_1 = c    a_{i+1} = a_i + x_{o_i} W_{o_i}
        p(x_{o_i} = 1 | x_{o_1} ... x_{o_{i-1}}) = sigmoid(b_{o_i} + V_{o_i} . sigmoid(a_i))

    A probability takes O(H D), and so does a draw.

    Arguments:
        kind: The kind of the vectors, with two levels.
        hidden: H, the number of hidden units.
        orderings: The number of random orderings; 0 for the inputs' own order.

    Raises:
        ConfigurationError: No hidden unit, more than two levels, or a negative number of orderings.

    Example:
        >>> model = NADE(Pixels(1, 4), 5)
        >>> model.log_prob(torch.tensor([[0, 1, 1, 0]])).shape
        torch.Size([1])
        >>> model.sample(2, known=torch.tensor([1, 1, -1, -1]))[:, 0, 0, :2].tolist()
        [[1, 1], [1, 1]]

    Source:
        Larochelle and Murray 2011, The neural autoregressive distribution estimator.

    Differs from the paper in:
        W and V are drawn uniformly from +-1/sqrt(D) and +-1/sqrt(H), b and c are 0: our choice. A
        mixture over orderings shares its weights.
    """

    def __init__(self, kind: Pixels, hidden: int, *, orderings: int = 0):
        super().__init__(kind, orderings)
        if hidden < 1:
            raise ConfigurationError("hidden", got=hidden, expected="at least 1")
        self.weight = nn.Parameter(uniform((self.size, hidden), self.size))
        self.readout = nn.Parameter(uniform((self.size, hidden), hidden))
        self.hidden_bias = nn.Parameter(torch.zeros(hidden))
        self.bias = nn.Parameter(torch.zeros(self.size))

    def logits(
        self, x: Float[Tensor, "batch inputs"], ordering: Int[Tensor, " inputs"]
    ) -> Float[Tensor, "batch inputs"]:
        """Return the logit of each input, given the inputs before it in an ordering.

        Arguments:
            x: Vectors of zeros and ones.
            ordering: Places of the inputs in the order of the conditionals.
        """
        initial = self.hidden_bias.expand(len(x), -1)
        own = torch.equal(ordering, torch.arange(self.size, device=ordering.device))
        if own:  # nothing is copied
            return autoregression(x, initial, self.weight, self.readout) + self.bias
        z = autoregression(x[:, ordering], initial, self.weight[ordering], self.readout[ordering])
        return z[:, earlier(ordering)] + self.bias

    def _conditionals(self, ordering: Tensor, columns: Tensor) -> Iterator[Tensor]:
        a = self.hidden_bias.expand(columns.shape[1], -1).clone()
        h = torch.empty_like(a)
        for place in ordering.tolist():
            torch.sigmoid(a, out=h)
            yield torch.mv(h, self.readout[place]) + self.bias[place]
            a.addr_(columns[place], self.weight[place])

    def _estimate(self, x: Tensor, random: torch.Generator | None) -> Tensor:
        return self._in_drawn_order(x, random)


def uniform(shape: tuple[int, ...], inputs: int) -> Float[Tensor, "..."]:
    """Return weights drawn uniformly from +-1/sqrt(inputs)."""
    bound = 1 / math.sqrt(inputs)
    return torch.empty(shape).uniform_(-bound, bound)
