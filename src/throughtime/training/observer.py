"""Events of a run while it goes on: plain records, for a progress display or a test."""

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
        folder: folder of the run.
        config: configuration of the run.
        step: updates done before, 0 in a new run.
        parameters: number of trained parameters.
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
        loss: loss of the last update's batch.
        gradient_norm: norm of the last gradient, before clipping.
        learning_rate: learning rate of the last update.
        seconds: time of the run, over all its starts.
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
        split: held-out data.
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
        folder: folder of the run.
        result: result that `train` returns.
    """

    folder: Path
    result: Result


Event = Started | Progress | Evaluated | Finished
"""An event."""

Observer = Callable[[Event], None]
"""Called with each event, in the process and thread of the run; what it raises ends the run."""
