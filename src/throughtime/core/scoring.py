"""Scores of models: a loss to minimise, means that merge exactly over batches, losses of steps."""

import dataclasses
import math
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, NamedTuple, Protocol, Self, final, runtime_checkable

import torch
from jaxtyping import Float, Num
from torch import Tensor, nn

from throughtime.core.cell import Cell
from throughtime.core.errors import ConfigurationError, ShapeError


class Mean(NamedTuple):
    """A mean that merges exactly over batches, accumulation steps and processes.

    Attributes:
        total: sum of the values, in float64 or int64.
        count: number of the values, in int64.

    Example:
        >>> merged([{"loss": Mean(torch.tensor(6.0), torch.tensor(3))}] * 2)["loss"].value
        2.0
    """

    total: Num[Tensor, ""]
    count: Num[Tensor, ""]  # pyright: ignore[reportIncompatibleMethodOverride]

    @property
    def value(self) -> float:
        """The mean; NaN if there is no value."""
        count = self.count.item()
        return self.total.item() / count if count else float("nan")


class Score(NamedTuple):
    """The score of a model on a batch.

    Attributes:
        loss: scalar to be minimised.
        parts: means to be reported, by name, without a graph: "loss", "accuracy", "bits" ...
        state: state for the next batch of the same stream, or None. The caller detaches it.
    """

    loss: Float[Tensor, ""]
    parts: Mapping[str, Mean]
    state: Any = None


@runtime_checkable
class Batch(Protocol):
    """Items that a task scores together: a NamedTuple or dataclass of tensors."""

    @property
    def size(self) -> int:
        """The number of independent items."""
        ...

    def to(self, device: torch.device) -> Self:
        """Return the batch on a device."""
        ...


class Steps(NamedTuple):
    """A batch, step by step, for learners that go forward in time.

    Attributes:
        inputs: (time, batch, input).
        targets: (time, batch, ...).
        weights: (time, batch) weights of the losses; 0 where no answer is due.
    """

    inputs: Tensor
    targets: Tensor
    weights: Float[Tensor, "time batch"]


@runtime_checkable
class Stepwise(Protocol):
    """A model that learners can teach: a cell whose output is read at every step."""

    def stepwise(self) -> tuple[Cell, nn.Module]:
        """Return the cell and the read-out, with the model's own parameters.

        Raises:
            ConfigurationError: the model does not step forward alone.
        """
        ...


@dataclasses.dataclass(frozen=True)
class Metric:
    """A number that tables and reports show.

    Attributes:
        name: key in the reported metrics; underscores stand for spaces: "accuracy".
        unit: unit of the number: "fraction" (shown in percent), "nats", "bits" ...
        better: direction of better models.
        chance: value of the best answer that remembers nothing; None if unknown.
        tables: If True, tables show the metric beside the headline.
    """

    name: str
    unit: str
    better: Literal["higher", "lower"]
    chance: float | None = None
    tables: bool = True

    @property
    def title(self) -> str:
        """The name in words."""
        return self.name.replace("_", " ")


def merged(parts: Iterable[Mapping[str, Mean]]) -> dict[str, Mean]:
    """Return the means over several scores."""
    found: dict[str, Mean] = {}
    for each in parts:
        for name, mean in each.items():
            before = found.get(name)
            found[name] = (
                mean
                if before is None
                else Mean(before.total + mean.total, before.count + mean.count)
            )
    return found


def perplexity(loss: float) -> float:
    """Return exp(loss); the largest number where that overflows, since JSON has no infinity.

    Arguments:
        loss: Negative log-likelihood in nats a symbol.

    Example:
        >>> perplexity(0.0), perplexity(1e6) < float("inf")
        (1.0, True)
    """
    return math.exp(loss) if loss < math.log(sys.float_info.max) else sys.float_info.max


@final
class StepwiseModel(nn.Module):
    """A cell whose output is read and judged at every step.

        l_t = weight_t loss(readout(h_t), y_t) + sparsity sum_i |h_{t,i}|

    The second term makes gradients sparse where units are rectified (Bengio, Boulanger-Lewandowski
    and Pascanu 2013): an output that is pressed to 0 passes none.

    Arguments:
        cell: any cell; a stack of several is a cell, too.
        readout: map from outputs (rows, output) to answers (rows, answer), row by row.
        loss: function from answers (rows, answer) and targets (rows, ...) to losses (rows,).
        sparsity: weight of the second term, at least 0.

    Raises:
        ConfigurationError: a negative sparsity.

    Example:
        >>> import torch
        >>> from throughtime.cells import ElmanCell
        >>> def squared(answers, targets):
        ...     return (answers - targets).square().sum(-1)
        >>> model = StepwiseModel(ElmanCell(2, 5), torch.nn.Linear(5, 1), squared)
        >>> model.losses(torch.ones(7, 3, 5), torch.ones(7, 3, 1)).shape
        torch.Size([7, 3])
    """

    def __init__(
        self,
        cell: Cell,
        readout: nn.Module,
        loss: Callable[[Tensor, Tensor], Tensor],
        sparsity: float = 0.0,
    ):
        super().__init__()
        if not sparsity >= 0:
            raise ConfigurationError("sparsity", got=sparsity, expected="at least 0")
        self.cell, self.readout, self.loss, self.sparsity = cell, readout, loss, float(sparsity)

    def losses(
        self,
        outputs: Float[Tensor, "*steps output"],
        targets: Tensor,
        weights: Float[Tensor, "*steps"] | None = None,
    ) -> Float[Tensor, "*steps"]:
        """The loss of each step. Neither read-out nor loss takes a step whose weight is 0.

        Arguments:
            outputs: h_t, with any leading axes.
            targets: y_t, (..., *) with the same leading axes.
            weights: weights of the steps; None for 1 everywhere.

        Raises:
            ShapeError: `loss` does not give one number a row.
        """
        if weights is None or bool((weights != 0).all()):
            losses = self.unweighted(outputs, targets)
            losses = losses if weights is None else losses * weights
        else:
            asked = weights.flatten().nonzero()[:, 0]
            rows, targets = outputs.flatten(0, -2)[asked], targets.flatten(0, weights.dim() - 1)
            own = self.unweighted(rows, targets[asked]) if len(asked) else rows.sum(-1)
            losses = own.new_zeros(weights.numel()).index_copy(0, asked, own)
            losses = losses.view_as(weights) * weights
        return losses + self.penalties(outputs) if self.sparsity else losses

    def unweighted(
        self, outputs: Float[Tensor, "*steps output"], targets: Tensor
    ) -> Float[Tensor, "*steps"]:
        """loss(readout(h_t), y_t) alone.

        Arguments:
            outputs: h_t, with any leading axes.
            targets: y_t, (..., *) with the same leading axes.

        Raises:
            ShapeError: `loss` does not give one number a row.
        """
        leading = outputs.shape[:-1]
        answers = self.readout(outputs.flatten(0, -2))
        losses = self.loss(answers, targets.flatten(0, len(leading) - 1))
        if losses.shape != (leading.numel(),):
            raise ShapeError(
                "loss",
                got=f"losses of shape {tuple(losses.shape)}",
                expected=f"({leading.numel()},), one for each row: reduction='none'",
            )
        return losses.unflatten(0, leading)

    def penalties(self, outputs: Float[Tensor, "*steps output"]) -> Float[Tensor, "*steps"]:
        """The second term.

        Arguments:
            outputs: h_t, with any leading axes.
        """
        return self.sparsity * outputs.abs().sum(-1)
