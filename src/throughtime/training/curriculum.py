"""The curriculum of a run: the level of its training sequences, which is part of its state."""

from typing import final

from throughtime.core.scoring import Metric
from throughtime.tasks.levels import Levelled
from throughtime.tasks.task import Task
from throughtime.training.checkpoint import RunState


@final
class Curriculum:
    """The levels of a task's training sequences; one without levels stays as it is.

    Arguments:
        task: task of the run.

    Attributes:
        start: level of the first update; 0 without curriculum.
        metrics: metric of the level that was reached, where there is one.
    """

    def __init__(self, task: Task):
        self._task = task
        self._levels = task.levels if isinstance(task, Levelled) else None
        self.start = 0 if self._levels is None else self._levels.start
        self.metrics = () if self._levels is None else (Metric("level", "level", "higher"),)

    def task(self, state: RunState) -> Task:
        """Return the task that the next batches are drawn from.

        Arguments:
            state: progress of the run.
        """
        if self._levels is None or not isinstance(self._task, Levelled):
            return self._task
        return self._task.at_level(state.level)

    def level(self, state: RunState) -> dict[str, float]:
        """Return the level by its name, where there is one.

        Arguments:
            state: progress of the run.
        """
        return {} if self._levels is None else {"level": float(state.level)}

    def rise(self, state: RunState, loss: float) -> bool:
        """Take the loss of an update, and return True if the level has risen.

        Arguments:
            state: progress of the run, whose level and last losses are changed.
            loss: loss of the update.
        """
        if self._levels is None:
            return False
        state.level_losses = [*state.level_losses, loss][-self._levels.patience :]
        level = self._levels.after(state.level, state.level_losses)
        if level == state.level:
            return False
        state.level, state.level_losses = level, []
        return True
