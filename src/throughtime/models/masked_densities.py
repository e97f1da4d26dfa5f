"""Networks whose weights are masked, so that each conditional reads earlier inputs alone."""

import itertools
from collections.abc import Iterator
from typing import final

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from throughtime.core.errors import ConfigurationError
from throughtime.models.binary_density import BinaryDensity, earlier, uniform
from throughtime.tasks.kinds import Pixels


@final
class FVSBN(BinaryDensity):
    """Logistic autoregression, a fully visible sigmoid belief network: no hidden units.

        p(x_{o_i} = 1 | x_{o_1} ... x_{o_{i-1}}) = sigmoid(b_{o_i} + sum_j W_{o_i o_j} x_{o_j})
        j < i

    Arguments:
        kind: The kind of the vectors, with two levels.
        orderings: The number of random orderings; 0 for the inputs' own order.

    Raises:
        ConfigurationError: More than two levels, or a negative number of orderings.

    Example:
        >>> FVSBN(Pixels(1, 4)).log_prob(torch.tensor([[0, 1, 1, 0]])).exp()
        tensor([0.0625], grad_fn=<ExpBackward0>)

    Source:
        Frey, Hinton and Dayan 1996, Does the wake-sleep algorithm produce good density estimators?

    Differs from the paper in:
        weights start at 0, and a mixture over orderings shares them: our choice.
    """

    def __init__(self, kind: Pixels, *, orderings: int = 0):
        super().__init__(kind, orderings)
        self.weight = nn.Parameter(torch.zeros(self.size, self.size))
        self.bias = nn.Parameter(torch.zeros(self.size))

    def logits(
        self, x: Float[Tensor, "batch inputs"], ordering: Int[Tensor, " inputs"]
    ) -> Float[Tensor, "batch inputs"]:
        """Return the logit of each input, given the inputs before it in an ordering.

        Arguments:
            x: Vectors of zeros and ones.
            ordering: Places of the inputs in the order of the conditionals.
        """
        return F.linear(x, self.weight * _before(ordering), self.bias)

    def _conditionals(self, ordering: Tensor, columns: Tensor) -> Iterator[Tensor]:
        weight = self.weight * _before(ordering)
        for place in ordering.tolist():
            yield weight[place] @ columns + self.bias[place]

    def _estimate(self, x: Tensor, random: torch.Generator | None) -> Tensor:
        return self._in_drawn_order(x, random)


@final
class GroupedNetwork(BinaryDensity):
    """A network with a group of hidden units for each input (Bengio and Bengio 1999).

        h_j = tanh(c_j + sum_{k < j} W_{j o_k} x_{o_k})        a group of H units
        p(x_{o_i} = 1 | x_{o_1} ... x_{o_{i-1}}) = sigmoid(b_{o_i} + sum_{j <= i} V_{ij} . h_j)

    Groups have weights of their own: O(H D^2) numbers, where NADE has O(H D). `prune` removes
    inputs from conditionals: the group of i then reads the kept ones, and its conditional reads
    groups that read no other inputs.

    Arguments:
        kind: The kind of the vectors, with two levels.
        hidden: H, the number of units of a group.
        orderings: The number of random orderings; 0 for the inputs' own order.

    Attributes:
        kept: True at (i, j) where the conditional of input i may read input j.

    Raises:
        ConfigurationError: No hidden unit, more than two levels, or a negative number of orderings.

    Example:
        >>> model = GroupedNetwork(Pixels(1, 4), 3)
        >>> model.sample(2).shape
        torch.Size([2, 1, 1, 4])

    Source:
        Bengio and Bengio 1999, Modeling high-dimensional discrete data with multi-layer neural
        networks.

    Differs from the paper in:
        inputs are binary. Nothing is pruned in training: see `prune`. The range of the first
        weights is our choice.
    """

    kept: Bool[Tensor, "inputs inputs"]

    def __init__(self, kind: Pixels, hidden: int, *, orderings: int = 0):
        super().__init__(kind, orderings)
        _check_hidden(hidden)
        size = self.size
        self.weight = nn.Parameter(uniform((size, hidden, size), size))
        self.hidden_bias = nn.Parameter(torch.zeros(size, hidden))
        self.readout = nn.Parameter(uniform((size, size, hidden), size * hidden))
        self.bias = nn.Parameter(torch.zeros(size))
        self.register_buffer("kept", torch.ones(size, size, dtype=torch.bool))

    def logits(
        self, x: Float[Tensor, "batch inputs"], ordering: Int[Tensor, " inputs"]
    ) -> Float[Tensor, "batch inputs"]:
        """Return the logit of each input, given the inputs before it in an ordering.

        Arguments:
            x: Vectors of zeros and ones.
            ordering: Places of the inputs in the order of the conditionals.
        """
        weight, readout = self._masked_weights(ordering)
        h = F.linear(x, weight.flatten(0, 1), self.hidden_bias.flatten()).tanh()
        return F.linear(h, readout.flatten(1), self.bias)

    def _masked_weights(self, ordering: Int[Tensor, " inputs"]) -> tuple[Tensor, Tensor]:
        """Return the weights of what each group reads, and of the groups that each input reads."""
        before = _before(ordering)
        reads = before & self.kept
        groups = before | torch.eye(self.size, dtype=torch.bool, device=before.device)
        if not bool(self.kept.all()):
            others = (~reads).float() @ reads.float().T  # inputs of a group that are not of i
            groups &= others == 0
        return self.weight * reads[:, None], self.readout * groups[:, :, None]

    def _conditionals(self, ordering: Tensor, columns: Tensor) -> Iterator[Tensor]:
        weight, readout = self._masked_weights(ordering)
        h = columns.new_zeros(*self.hidden_bias.shape, columns.shape[1])
        for place in ordering.tolist():
            sums = weight[place] @ columns
            h[place] = (sums + self.hidden_bias[place][:, None]).tanh()
            yield readout[place].flatten() @ h.flatten(0, 1) + self.bias[place]

    def _estimate(self, x: Tensor, random: torch.Generator | None) -> Tensor:
        return self._in_drawn_order(x, random)


@final
class MADE(BinaryDensity):
    """The masked autoencoder for distribution estimation.

        h^1 = relu(c^1 + (W^1 * M^1) x)    h^l = relu(c^l + (W^l * M^l) h^{l-1})
        logits = b + (V * M^V) h^L (+ (A * M^A) x)

    A hidden unit of degree m reads the first m inputs of the ordering, and units of at most its own
    degree; input i is predicted from units of degrees below i. A probability takes one pass, a draw
    D passes.

    Arguments:
        kind: The kind of the vectors, with two levels.
        hidden: The number of units of a hidden layer.
        layers: The number of hidden layers.
        orderings: The number of random orderings; 0 for the inputs' own order.
        direct: If True, A: inputs are predicted from earlier inputs directly, too.

    Raises:
        ConfigurationError: No hidden unit or layer, more than two levels, or a negative number of
            orderings.

    Example:
        >>> model = MADE(Pixels(1, 4), 8, orderings=2)
        >>> model.log_prob(torch.tensor([[0, 1, 1, 0]])).shape
        torch.Size([1])

    Source:
        Germain, Gregor, Murray and Larochelle 2015, MADE: masked autoencoder for distribution
        estimation.

    Differs from the paper in:
        degrees are spread evenly over 1 ... D - 1 and the same in each layer; the range of the
        first weights: our choice.
    """

    degrees: Int[Tensor, " hidden"]

    def __init__(
        self,
        kind: Pixels,
        hidden: int,
        *,
        layers: int = 1,
        orderings: int = 0,
        direct: bool = False,
    ):
        super().__init__(kind, orderings)
        _check_hidden(hidden)
        if layers < 1:
            raise ConfigurationError("layers", got=layers, expected="at least 1")
        degrees = 1 + torch.arange(hidden) * (self.size - 1) // hidden
        self.register_buffer("degrees", degrees, persistent=False)
        widths = [self.size, *[hidden] * layers, self.size]
        self.linears = nn.ModuleList(nn.Linear(i, o) for i, o in itertools.pairwise(widths))
        self.direct = nn.Parameter(torch.zeros(self.size, self.size)) if direct else None

    def logits(
        self, x: Float[Tensor, "batch inputs"], ordering: Int[Tensor, " inputs"]
    ) -> Float[Tensor, "batch inputs"]:
        """Return the logit of each input, given the inputs before it in an ordering.

        Arguments:
            x: Vectors of zeros and ones.
            ordering: Places of the inputs in the order of the conditionals.
        """
        *weights, direct = self._masked_weights(ordering)
        return self._pass(x, weights, direct)

    def _layers(self) -> list[nn.Linear]:
        return [each for each in self.linears if isinstance(each, nn.Linear)]

    def _masked_weights(self, ordering: Int[Tensor, " inputs"]) -> list[Tensor | None]:
        """Return the masked weights of each layer, then of the direct connections or None."""
        before, m = earlier(ordering), self.degrees
        layers = self._layers()
        masks = [before < m[:, None], *[m <= m[:, None]] * (len(layers) - 2), m <= before[:, None]]
        weights: list[Tensor | None] = [
            layer.weight * mask for layer, mask in zip(layers, masks, strict=True)
        ]
        return [*weights, None if self.direct is None else self.direct * _before(ordering)]

    def _pass(self, x: Tensor, weights: list[Tensor | None], direct: Tensor | None) -> Tensor:
        h = x
        for number, (layer, weight) in enumerate(zip(self._layers(), weights, strict=True)):
            assert weight is not None
            h = F.linear(h if number == 0 else h.relu(), weight, layer.bias)
        return h if direct is None else h + F.linear(x, direct)

    def _conditionals(self, ordering: Tensor, columns: Tensor) -> Iterator[Tensor]:
        *weights, direct = self._masked_weights(ordering)
        for place in ordering.tolist():
            yield self._pass(columns.T, weights, direct)[:, place]

    def _estimate(self, x: Tensor, random: torch.Generator | None) -> Tensor:
        return self._in_drawn_order(x, random)


def _before(ordering: Int[Tensor, " inputs"]) -> Tensor:
    """Return True at (i, j) where input j comes before input i in an ordering."""
    places = earlier(ordering)
    return places < places[:, None]


def _check_hidden(hidden: int) -> None:
    if hidden < 1:
        raise ConfigurationError("hidden", got=hidden, expected="at least 1")
