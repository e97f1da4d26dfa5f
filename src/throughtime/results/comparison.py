"""The result of a comparison of models on a task: several runs for each model."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

from throughtime.core.scoring import Metric
from throughtime.results.record import Record
from throughtime.results.samples import Samples

When: TypeAlias = Literal["start", "trained"]
"""Time of the measurement of gradient flow: before the first update, or after the last."""

SHORTENED = ("evaluate_every", "warmup_steps")
"""Settings that a comparison makes shorter together with the steps; names do without them."""


@dataclass(frozen=True)
class TaskFacts:
    """Description of the task, as the study recorded it.

    Attributes:
        spec: registry text, "adding:length=100".
        description: one line.
        length: the largest number of time steps.
        dependency_length: steps between the earliest input that the answer needs and the answer.
        metrics: metrics of the task, the headline first.
        criterion: Condition under which the task counts as solved, in words.
    """

    spec: str
    description: str
    length: int
    dependency_length: int
    metrics: tuple[Metric, ...]
    criterion: str

    @property
    def headline(self) -> Metric:
        """The metric by which models are compared."""
        return self.metrics[0]

    @property
    def others(self) -> tuple[Metric, ...]:
        """Further metrics that tables show."""
        return tuple(metric for metric in self.metrics[1:] if metric.tables)

    def chance(self, name: str) -> float | None:
        """Return the chance level of a metric; None if it is unknown.

        Arguments:
            name: name of the metric.
        """
        return next((metric.chance for metric in self.metrics if metric.name == name), None)


@dataclass(frozen=True)
class Curve:
    """Held-out metrics over training, in equally long tuples.

    Attributes:
        steps: updates done.
        loss: mean over the validation split.
        headline: headline metric of the task, on the validation split.
    """

    steps: tuple[int, ...]
    loss: tuple[float, ...]
    headline: tuple[float, ...]


@dataclass(frozen=True)
class GradientReach:
    """Gradient flow of one network on one held-out batch; both tuples are indexed by lag.

    Attributes:
        norm_by_lag: the norm of dL/dh at that many steps before the last one.
        contribution_by_lag: the norm of what that lag adds to the gradient of the weights.
        reach: the largest lag at which the norm is at least 1 % of the largest norm.
    """

    norm_by_lag: tuple[float, ...]
    contribution_by_lag: tuple[float, ...]
    reach: int


@dataclass(frozen=True)
class Run:
    """One run of one model with one seed.

    Attributes:
        folder: Folder of the run.
        seed: Seed of its weights and batches.
        status: "completed", "solved" or "diverged".
        step: training steps done.
        seconds: time spent in training and evaluation.
        parameters: trainable numbers.
        test: test metrics by name; None for a run that diverged.
        diverged: {"step", "quantity"} of the first number that was not finite, or None.
        curve: held-out metrics over training.
        gradient: "start", before the first update, and "trained"; None where it was not measured,
            as for a run that diverged.
        config: the fields of the run's RunConfig.
        environment: Versions, device, threads and engines of the run.
        samples: outputs of the trained model; None for a task whose models generate nothing.
    """

    folder: Path
    seed: int
    status: str
    step: int
    seconds: float
    parameters: int
    test: Mapping[str, float] | None
    diverged: Mapping[str, Any] | None
    curve: Curve
    gradient: Mapping[When, GradientReach] | None
    config: Mapping[str, Any]
    environment: Mapping[str, Any]
    samples: Samples | None = None


@dataclass(frozen=True)
class Spread:
    """Some values in short.

    Attributes:
        mean: Mean of the values.
        deviation: their sample standard deviation; 0 for a single value.
        low, high: the extremes.
        n: Number of values.
    """

    mean: float
    deviation: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class ModelRuns:
    """All finished runs of one configuration: a model, and the settings of its training.

    Attributes:
        label: Name that no other configuration of the comparison has: the requested model,
            "skip-rnn", with its variant, "lstm, clipped", or with the settings that differ from
            those of the model's first configuration, "gru, steps=3000".
        spec: the model as it was run, "skip-rnn:lag=8".
        description: one line.
        runs: one a seed.
        name: the label without settings.
        settings: the training settings of each run, by name: steps, batch_size, learning_rate ...
        asked: If True, the latest request includes this configuration.
    """

    label: str
    spec: str
    description: str
    runs: tuple[Run, ...]
    name: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])
    asked: bool = True

    @property
    def finished(self) -> tuple[Run, ...]:
        """The runs that did not diverge."""
        return tuple(run for run in self.runs if run.status != "diverged")

    def test(self, metric: str) -> Spread | None:
        """The spread of a test metric, by name, over the runs that did not diverge.

        None where they do not have it, as a dynamic evaluation that other runs make.
        """
        found = (run.test for run in self.finished if run.test is not None)
        return spread(test[metric] for test in found if metric in test)

    def reach(self, when: When) -> Spread | None:
        """The spread of the gradient's reach in steps, over the runs where it was measured.

        Arguments:
            when: "start", before the first update, or "trained".
        """
        measured = (run.gradient for run in self.runs if run.gradient is not None)
        return spread(float(gradient[when].reach) for gradient in measured)


@dataclass(frozen=True)
class Comparison(Record):
    """Models on one task, several seeds each: all finished runs of one folder.

    Attributes:
        folder: Folder of the runs and the report.
        command: the latest command line that added to the folder.
        request: its request, as JSON values.
        task: Description of the task.
        models: the configurations, in the order of the requests.
        commands: the command lines that made the folder, in order, each once.
        unfinished: the number of runs in the folder that have no result yet.
    """

    folder: Path
    command: str
    request: Mapping[str, Any]
    task: TaskFacts
    models: tuple[ModelRuns, ...]
    commands: tuple[str, ...] = ()
    unfinished: int = 0

    @property
    def report(self) -> Path:
        """Path of the HTML report of this comparison."""
        return self.folder / "report.html"

    @property
    def only_model(self) -> str | None:
        """Model that all labels start with, where one model is trained in several ways."""
        asked = self.request.get("models") or ()
        name = asked[0] if len(asked) == 1 else None
        several = len(self.models) > 1
        starts = all(model.label.startswith(f"{name}, ") for model in self.models)
        return name if several and starts else None

    @property
    def seeds(self) -> str:
        """The number of seeds of a configuration: "3", or the least and the largest, "1 to 3"."""
        counts = sorted({len(model.runs) for model in self.models})
        return " to ".join(map(str, dict.fromkeys((counts[0], counts[-1]))))

    @property
    def differing(self) -> tuple[str, ...]:
        """The names of the settings that are not the same for all configurations."""
        return differing([model.settings for model in self.models])

    @property
    def names_settings(self) -> bool:
        """True if labels name settings, beside the model and its variant."""
        return any(model.name and model.label != model.name for model in self.models)

    @property
    def in_short(self) -> "Comparison":
        """The same, with the name of an only model left out: "rtrl" instead of "lstm, rtrl"."""
        name = self.only_model
        if name is None:
            return self
        start = f"{name}, "
        models = (
            replace(m, label=m.label.removeprefix(start), name=m.name.removeprefix(start))
            for m in self.models
        )
        return replace(self, models=tuple(models))

    @property
    def runs(self) -> tuple[Run, ...]:
        """All runs of all models."""
        return tuple(run for model in self.models for run in model.runs)


def differing(settings: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """The names of the settings whose values are not all the same.

    Example:
        >>> differing([{"steps": 10, "learner": "bptt"}, {"steps": 20, "learner": "bptt"}])
        ('steps',)
    """
    names = dict.fromkeys(name for each in settings for name in each)
    return tuple(n for n in names if any(each.get(n) != settings[0].get(n) for each in settings))


def spread(values: Iterable[float]) -> Spread | None:
    """Mean and spread of some values; None if there are none.

    Example:
        >>> spread([1.0, 2.0, 3.0])
        Spread(mean=2.0, deviation=1.0, low=1.0, high=3.0, n=3)
    """
    found = list(values)
    if not found:
        return None
    deviation = statistics.stdev(found) if len(found) > 1 else 0.0
    return Spread(statistics.fmean(found), deviation, min(found), max(found), len(found))
