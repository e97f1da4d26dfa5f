"""Scores of models: a loss to minimise, and means that merge exactly over batches."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, Literal, NamedTuple, Protocol, Self, runtime_checkable

import torch
from jaxtyping import Float, Num
from torch import Tensor, nn

from throughtime.core.cell import Cell


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
