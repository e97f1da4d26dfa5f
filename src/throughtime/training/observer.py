"""What a run tells while it goes on: plain events, for a progress display or a test."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from throughtime.core.scoring import Metric
from throughtime.tasks.task import Split
from throughtime.training.config import RunConfig
from throughtime.training.result import Result


@dataclass(frozen=True)
class Started:
    """The model is built, and the last checkpoint, if there was one, is read.

    Attributes:
        folder: of the run.
        config: of the run.
        step: updates done before, 0 in a new run.
        parameters: of the model, those that are trained.
    """

    folder: Path
    config: RunConfig
    step: int
    parameters: int


@dataclass(frozen=True)
class Progress:
    """Updates were made; sent a few times a second.

    Attributes:
        step: updates done.
        steps: updates of the whole run, at most.
        loss: of the last update's batch.
        gradient_norm: of the last update, before clipping.
        learning_rate: of the last update.
        seconds: that the run has taken, over all its starts.
    """

    step: int
    steps: int
    loss: float
    gradient_norm: float
    learning_rate: float
    seconds: float


@dataclass(frozen=True)
class Evaluated:
    """Held-out data were evaluated.

    Attributes:
        step: updates done.
        split: which data.
        metrics: metrics by name, "loss" among them.
        headline: the metric that tables show.
    """

    step: int
    split: Split
    metrics: Mapping[str, float]
    headline: Metric


@dataclass(frozen=True)
class Finished:
    """The result is stored, now or by an earlier call.

    Attributes:
        folder: of the run.
        result: as `train` returns it.
    """

    folder: Path
    result: Result


Event = Started | Progress | Evaluated | Finished
"""What an observer is told."""

Observer = Callable[[Event], None]
"""Called with each event, in the process and thread of the run; what it raises ends the run."""
