"""Length extrapolation: the loss on sequences longer than those of the training."""

import dataclasses
import itertools
import math
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from throughtime.core.errors import ConfigurationError
from throughtime.foreign.unchanged import unchanged
from throughtime.results.record import Record


@dataclasses.dataclass(frozen=True, eq=False)
class LengthExtrapolation(Record):
    """Loss against length, over several batches of each. All in float64.

    Attributes:
        lengths: lengths in increasing order; the training length is one of them.
        trained: the training length.
        losses: losses of each batch.
        p_values: probability, for each length, of a mean loss that exceeds the training length's by
            as much or more would be if both came from one distribution; NaN at the training length.
        level: below which p is called significant, all longer lengths together.
    """

    lengths: tuple[int, ...]
    trained: int
    losses: Float[Tensor, "lengths repeats"]
    p_values: Float[Tensor, " lengths"]
    level: float

    @property
    def mean(self) -> Float[Tensor, " lengths"]:
        """The mean loss of each length."""
        return self.losses.mean(1)

    @property
    def spread(self) -> Float[Tensor, " lengths"]:
        """The standard deviation of the loss over batches of each length."""
        return self.losses.std(1)

    @property
    def ratio(self) -> Float[Tensor, " lengths"]:
        """The mean loss of each length over that of the training length."""
        return self.mean / self.mean[self.lengths.index(self.trained)]

    @property
    def exceeds_at(self) -> int | None:
        """The first length beyond the training length whose loss is significantly larger.

        The level is shared among the longer lengths (Bonferroni), so that the chance of naming any
        where none is larger stays below it. None if there is none.
        """
        longer = [k for k, length in enumerate(self.lengths) if length > self.trained]
        for k in longer:
            if float(self.p_values[k]) <= self.level / len(longer):
                return self.lengths[k]
        return None


def length_extrapolation(
    model: nn.Module,
    loss_at: Callable[[int], Tensor],
    lengths: Sequence[int],
    repeats: int = 8,
    *,
    trained: int,
    level: float = 0.05,
    seed: int = 0,
) -> LengthExtrapolation:
    """Measure the loss on lengths that the model was not trained on.

    Mean losses are compared with the training length's by a one-sided permutation test, which is
    free of assumptions on the losses' distribution: of all ways to divide the batches of both
    lengths into two groups, which part gives a difference as large. All are tried up to 8 repeats;
    beyond, 20,000 at random. A length whose loss is not finite exceeds.

    Arguments:
        model: any module; it is put in evaluation mode and left as it was.
        loss_at: draws a batch of sequences of this length, from torch's random numbers or its own,
            and returns the model's loss on it, a scalar that does not grow with the length by
            itself (a mean over steps, or the loss at the end).
        lengths: numbers of steps, at least 1 each; the training length is added.
        repeats: batches of each length, at least 2. With n of them no p is below n! n! / (2n)!:
            0.05 for 3, 0.004 for 5, 0.00008 for 8.
        trained: the training length.
        level: level of significance, in (0, 1).
        seed: seed of torch's random numbers in the meantime.

    Returns:
        Losses by length, and where they first exceed that of the training length.

    Raises:
        ConfigurationError: lengths or repeats out of range, so few repeats that nothing could ever
            be significant, or a loss that is no scalar.

    Example:
        >>> rnn = nn.GRU(1, 8)
        >>> def loss_at(length):
        ...     x = torch.randn(length, 4, 1)
        ...     return (rnn(x)[0][-1, :, 0] - x[0, :, 0]).square().mean()
        >>> result = length_extrapolation(rnn, loss_at, (20, 40), trained=10)
        >>> result.lengths, result.mean.shape
        ((10, 20, 40), torch.Size([3]))

    Source:
        Pitman, 1937 (the permutation test).
    """
    grid = tuple(sorted({*lengths, trained}))
    longer = sum(length > trained for length in grid)
    if min(grid) < 1 or repeats < 2 or not 0 < level < 1:
        raise ConfigurationError(
            "length_extrapolation",
            got=f"lengths {grid}, repeats {repeats}, level {level}",
            expected="lengths of at least 1, repeats of at least 2, a level in (0, 1)",
        )
    if longer and 1 / math.comb(2 * repeats, repeats) > level / longer:
        raise ConfigurationError(
            "repeats",
            got=f"{repeats} for {longer} lengths beyond the training length",
            expected=f"enough for a p of {level / longer:.2g}",
            fix="Ask for more repeats or fewer lengths.",
        )
    with unchanged(model), torch.no_grad():
        torch.manual_seed(seed)
        model.eval()
        losses = torch.tensor(
            [[_loss(loss_at, length) for _ in range(repeats)] for length in grid],
            dtype=torch.float64,
            device="cpu",
        )
    divisions = _divisions(repeats, seed)
    reference = losses[grid.index(trained)]
    p_values = [
        math.nan if length == trained else _p_value(losses[k], reference, divisions)
        for k, length in enumerate(grid)
    ]
    return LengthExtrapolation(
        lengths=grid,
        trained=trained,
        losses=losses,
        p_values=torch.tensor(p_values, dtype=torch.float64, device="cpu"),
        level=level,
    )


def _loss(loss_at: Callable[[int], Tensor], length: int) -> float:
    value = loss_at(length)
    if not isinstance(value, Tensor) or value.dim() != 0:
        got = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        raise ConfigurationError("loss_at", got=got, expected="a scalar tensor")
    return float(value)


def _divisions(repeats: int, seed: int) -> Tensor:
    """Ways to choose half of 2 n batches, (ways, n), the first being the one that was measured."""
    if repeats <= 8:
        return torch.tensor(list(itertools.combinations(range(2 * repeats), repeats)), device="cpu")
    generator = torch.Generator("cpu").manual_seed(seed)
    order = torch.rand(20_000, 2 * repeats, generator=generator, device="cpu").argsort(1)
    measured = torch.arange(repeats, device="cpu")
    return torch.cat([measured[None], order[:, :repeats]])


def _p_value(losses: Tensor, reference: Tensor, divisions: Tensor) -> float:
    """The part of all divisions that give the first group a mean as large as it has."""
    if not bool(reference.isfinite().all()):
        return 1.0
    if not bool(losses.isfinite().all()):
        return 0.0
    pooled = torch.cat([losses, reference])
    sums = pooled[divisions].sum(1)
    # equal sums in another order differ by rounding
    margin = 1e-12 * float(pooled.abs().sum())
    return float((sums >= losses.sum() - margin).double().mean())
