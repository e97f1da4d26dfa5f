"""Curricula: tasks whose size is a level, which grows while a model learns."""

import abc
import dataclasses
from collections.abc import Sequence
from typing import final

from throughtime.core.errors import ConfigurationError
from throughtime.tasks.task import Task, check_at_least


@final
@dataclasses.dataclass(frozen=True)
class Levels:
    """A curriculum: training doubles the largest level where the loss is low.

    The level of a batch is uniform from the task's smallest to h. Where the mean loss
    of the last `patience` updates is below `threshold`, h becomes min(2 h, largest).

    Attributes:
        start: the first h.
        largest: the last h, that of the held-out data.
        threshold: loss below which h doubles, above 0.
        patience: number of updates whose loss is averaged, at least 1.

    Raises:
        ConfigurationError: a number is out of range.

    Example:
        >>> levels = Levels(start=2, largest=20, threshold=0.01, patience=3)
        >>> levels.after(2, [0.5, 0.005, 0.005, 0.005]), levels.after(16, [0.0] * 3)
        (4, 20)

    Source:
        Zaremba & Sutskever, "Learning to execute", 2014; Rae et al., "Scaling memory-augmented
        neural networks with sparse reads and writes", NeurIPS 2016, for the doubling. The
        threshold and the patience are our choice.
    """

    start: int
    largest: int
    threshold: float
    patience: int

    def __post_init__(self) -> None:
        check_at_least("start of a curriculum", self.start, 1)
        check_at_least("patience of a curriculum", self.patience, 1)
        if self.start > self.largest:
            raise ConfigurationError(
                "start of a curriculum", got=self.start, expected=f"at most {self.largest}"
            )
        if not self.threshold > 0:
            raise ConfigurationError(
                "threshold of a curriculum", got=self.threshold, expected="a number above 0"
            )

    def after(self, level: int, losses: Sequence[float]) -> int:
        """Return the largest level of the next update.

        Arguments:
            level: largest level of the last updates.
            losses: losses of the updates at that level, in order.
        """
        last = losses[-self.patience :]
        if len(last) < self.patience or sum(last) / len(last) >= self.threshold:
            return level
        return min(2 * level, self.largest)


class Levelled(Task, abc.ABC):
    """A task whose size is a level.

    Attributes:
        levels: the curriculum; None where all levels are drawn from the first update on.
    """

    levels: Levels | None = None

    @abc.abstractmethod
    def at_level(self, level: int) -> Task:
        """Return the same task with levels up to another one, without curriculum.

        Arguments:
            level: its largest level.
        """
