"""NADE: hidden units with shared weights, whose sums grow by one input at a time."""

from collections.abc import Iterator
from typing import final

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from throughtime.core.errors import ConfigurationError
from throughtime.engines.autoregression import autoregression
from throughtime.models.binary_density import BinaryDensity, earlier, uniform
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
        bias = self.bias.tolist()
        for place in ordering.tolist():
            yield a.sigmoid() @ self.readout[place] + bias[place]
            a.addr_(columns[place], self.weight[place])

    def _estimate(self, x: Tensor, random: torch.Generator | None) -> Tensor:
        return self._in_drawn_order(x, random)


@final
class OrderlessNADE(BinaryDensity):
    """A NADE that is trained for all orderings at once: any inputs may be known.

        a = c + sum_{d known} (x_d W_d + U_d)
        p(x_d = 1 | known inputs) = sigmoid(b_d + V_d . sigmoid(a))

    U tells an unknown input from a zero. Training draws a number n of known inputs from 0 ... D - 1
    and n inputs, for each vector anew, and takes

        D / (D - n) sum_{d unknown} log p(x_d | known inputs)

    Its expectation is the mean log-probability over all D! orderings. A probability is that of a
    mixture over some orderings; `sample` puts known inputs first.

    Arguments:
        kind: The kind of the vectors, with two levels.
        hidden: H, the number of hidden units.
        orderings: The number of random orderings of the mixture, at least 1.

    Raises:
        ConfigurationError: No hidden unit, more than two levels, or no ordering.

    Example:
        >>> model = OrderlessNADE(Pixels(1, 4), 5)
        >>> model.sample(2, known=torch.tensor([-1, -1, -1, 1]))[:, 0, 0, 3].tolist()
        [1, 1]

    Source:
        Uria, Murray and Larochelle 2014, A deep and tractable density estimator.

    Differs from the paper in:
        each vector of a batch has known inputs of its own; one hidden layer. The range of the first
        weights is our choice.
    """

    any_order = True

    def __init__(self, kind: Pixels, hidden: int, *, orderings: int = 1):
        if orderings < 1:
            raise ConfigurationError("orderings", got=orderings, expected="at least 1")
        super().__init__(kind, orderings)
        if hidden < 1:
            raise ConfigurationError("hidden", got=hidden, expected="at least 1")
        self.weight = nn.Parameter(uniform((self.size, hidden), self.size))
        self.seen = nn.Parameter(uniform((self.size, hidden), self.size))
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
        # each input has two steps: the first reads x_d, the second always reads 1
        read = torch.stack([x[:, ordering], torch.ones_like(x)], 2).flatten(1)
        weight = torch.stack([self.weight[ordering], self.seen[ordering]], 1).flatten(0, 1)
        readout = self.readout[ordering]
        readout = torch.stack([readout, torch.zeros_like(readout)], 1).flatten(0, 1)
        z = autoregression(read, self.hidden_bias.expand(len(x), -1), weight, readout)
        return z[:, ::2][:, earlier(ordering)] + self.bias

    def _conditionals(self, ordering: Tensor, columns: Tensor) -> Iterator[Tensor]:
        a = self.hidden_bias.expand(columns.shape[1], -1).clone()
        for place in ordering.tolist():
            yield a.sigmoid() @ self.readout[place] + self.bias[place]
            a.addr_(columns[place], self.weight[place]).add_(self.seen[place])

    def _estimate(self, x: Tensor, random: torch.Generator | None) -> Tensor:
        batch, size = x.shape
        count = torch.randint(size, (batch, 1), generator=random)
        ranks = torch.rand(batch, size, generator=random).argsort(1).argsort(1)
        known, count = (ranks < count).to(x), count.to(x)
        a = (x * known) @ self.weight + known @ self.seen + self.hidden_bias
        logits = F.linear(a.sigmoid(), self.readout, self.bias)
        losses = F.binary_cross_entropy_with_logits(logits, x, reduction="none")
        return -(losses * (1 - known)).sum(1) * (size / (size - count[:, 0]))
