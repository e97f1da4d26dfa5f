"""The result of a run, and its events while it goes on: plain records."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

from throughtime.core.errors import RunError
from throughtime.core.scoring import Metric
from throughtime.results.fields import from_document
from throughtime.tasks.task import Split
from throughtime.training.config import RunConfig
from throughtime.training.reproducibility import Environment


@dataclasses.dataclass(frozen=True)
class Divergence:
    """The first update whose loss or gradient was NaN or infinite; it was not applied.

    Attributes:
        step: the update, counted from 1: the weights are those after step - 1 updates. Where the
            loss is that of held-out data, the update after which they were evaluated.
        quantity: quantity that was not finite.
    """

    step: int
    quantity: Literal["loss", "gradient"]


@dataclasses.dataclass(frozen=True)
class Result:
    """The result of one run, as result.json holds it.

    Attributes:
        status: "solved" where the last evaluation meets the task's criterion, "completed" after all
            steps without, "diverged" where a loss or gradient was not finite.
        step: updates done.
        seconds: time of training and validation, over all starts of the run.
        parameters: number of trained parameters.
        clip_rate: fraction of the updates whose gradient was clipped.
        validation: metrics of the last evaluation that was finite, by name, or None.
        test: the same on the test split, after the last update; None if the run diverged.
        diverged: first update that was not finite, or None.
        environment: environment of the run.
        rescheduled: numbers of steps of earlier calls, where the learning rate
            depends on that number: the run differs from one of all steps at once.
        metrics: metrics of the task, the headline first; accuracy in files of earlier versions.
        signatures: settings of metrics by their names, as sacrebleu's of BLEU.
    """

    status: Literal["completed", "solved", "diverged"]
    step: int
    seconds: float
    parameters: int
    clip_rate: float
    validation: dict[str, float] | None
    test: dict[str, float] | None
    diverged: Divergence | None
    environment: Environment
    rescheduled: tuple[int, ...] = ()
    metrics: tuple[Metric, ...] = (Metric("accuracy", "fraction", "higher"),)
    signatures: dict[str, str] = dataclasses.field(default_factory=dict)

    def to_json(self) -> dict[str, object]:
        """All fields, as JSON has them."""
        document: dict[str, object] = dataclasses.asdict(self)
        metrics = [dataclasses.asdict(metric) for metric in self.metrics]
        return {**document, "rescheduled": list(self.rescheduled), "metrics": metrics}

    @classmethod
    def from_json(cls, document: Mapping[str, object], where: str = "the run's result") -> "Result":
        """The result that `to_json` wrote. Raises RunError if the fields are not a result's."""
        try:
            return _checked(from_document(cls, document))
        except TypeError as error:
            raise RunError(
                f"{where} is not a result",
                got=f"{type(error).__name__}: {error}",
                fix="Bring the file back, or rename the run's folder and start the run again.",
            ) from error


def _checked(found: Result) -> Result:
    """The result itself; a TypeError if its fields contradict each other."""
    whole = found.test is not None and {"loss", found.metrics[0].name} <= found.test.keys()
    if whole == (found.status == "diverged") or (found.test is not None and not whole):
        raise TypeError(f"a run that is {found.status} with {found.test} for its test")
    if min(found.step, found.parameters, found.seconds) < 0:
        raise TypeError("a number below 0")
    return found


@dataclasses.dataclass(frozen=True)
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


@dataclasses.dataclass(frozen=True)
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


@dataclasses.dataclass(frozen=True)
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


@dataclasses.dataclass(frozen=True)
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
