"""Findings about one model: its diagnosis with measured remedies, and an inspection of it."""

import dataclasses
import enum
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Literal, TypeAlias

from throughtime.results.record import Record, views_of


class Cause(enum.Enum):
    """The cause why a recurrent network does not remember, or HEALTHY if it does."""

    HEALTHY = "healthy"
    NO_LONG_DEPENDENCY = "no long dependency"
    NO_DEPENDENCE = "no dependence found"
    TIME_BATCH_SWAPPED = "time and batch swapped"
    SAMPLES_MIXED = "samples mixed"
    STATE_LEAK = "state leak"
    PADDING_READ = "padding read"
    WRONG_STEP = "answer at the wrong step"
    ONE_STEP = "one-step sequences"
    TARGET_SEEN = "target seen"
    TARGETS_MISPAIRED = "target meets other answers"
    ANSWERS_UNFIT = "answers do not fit the loss"
    UNSCALED = "inputs not scaled"
    NOT_TRAINED = "not trained"
    NOT_ZEROED = "gradients not zeroed"
    STEP_SIZE = "step size"
    WEIGHT_DECAY = "weight decay"
    DROPOUT = "dropout"
    GRADIENT_CUT = "gradient cut"
    VANISHING = "vanishing gradient"
    EXPLODING = "exploding gradient"
    FORGETTING = "forgetting"
    SATURATED = "saturated"
    DEAD_UNITS = "dead units"
    EXPOSURE_BIAS = "exposure bias"
    ATTENTION_UNUSED = "attention unused"
    MEMORY_UNUSED = "memory not used"
    POSTERIOR_COLLAPSE = "posterior collapse"
    UNDERTRAINED = "undertrained"
    INCONCLUSIVE = "inconclusive"

    def __str__(self) -> str:
        """Return the cause in words."""
        return self.value


Severity: TypeAlias = Literal["fault", "warning", "note"]
"""A fault keeps the model from remembering; a warning may; a note is for information."""

Certainty: TypeAlias = Literal["proved", "measured", "suspected"]
"""Proved by an exact experiment; measured with an interval clear of the threshold; or neither."""


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A measured number and its 95 % confidence interval.

    Attributes:
        value: The estimate.
        low, high: Ends of the interval; both equal the value where it is exact.
        n: Number of independent measurements.
    """

    value: float
    low: float
    high: float
    n: int


@dataclasses.dataclass(frozen=True)
class Finding:
    """One observation about the model.

    Attributes:
        cause: Cause that it indicates.
        severity: Weight of the finding.
        certainty: Kind of evidence.
        statement: One sentence, with the numbers.
        effect: Size of the effect; None where there is none.
        effect_name: Name of the measured quantity.
        threshold: Size from which the effect counts; None for a yes or no.
        measured_on: Layer, batches and sequences.
        remedy: Advice in one sentence; "" where nothing needs to be done.
    """

    cause: Cause
    severity: Severity
    certainty: Certainty
    statement: str
    effect: Estimate | None
    effect_name: str
    threshold: float | None
    measured_on: str
    remedy: str


@dataclasses.dataclass(frozen=True)
class Remedy:
    """A change that was made to a copy of the model, and its effect.

    Attributes:
        name: Name of the change, in a few words.
        code: Python code of the change that a reader can paste; "" where there is none.
        how: "trained" if copies with and without it were trained alike, and their losses compared;
            "instruments" if the untrained copy alone was measured.
        quantity: Name of the measured quantity: "validation loss", "gradient at lag 40".
        before: The quantity without the change.
        after: The quantity with the change.
        updates: Number of updates of each copy; 0 where none was trained.
        helped: If True, it was trained, and its loss is lower by more than the noise.
    """

    name: str
    code: str
    how: Literal["trained", "instruments"]
    quantity: str
    before: Estimate
    after: Estimate
    updates: int
    helped: bool


@dataclasses.dataclass(frozen=True)
class Series:
    """One curve of a picture.

    Attributes:
        label: Name of the curve.
        x, y: Points; a y that is not finite is a gap.
        low, high: A band around y, or empty.
    """

    label: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()


@dataclasses.dataclass(frozen=True)
class Picture:
    """One figure, as values.

    Attributes:
        title: Finding that the figure shows, as a sentence.
        caption: Explanation of the figure.
        x_label, y_label: Labels of the axes, with units.
        series: The curves.
        logarithmic: If True, the y axis is logarithmic.
        mark: An x at which a line is drawn, and its label; None for none.
        level: A y at which a line is drawn, and its label; None for none.
    """

    title: str
    caption: str
    x_label: str
    y_label: str
    series: tuple[Series, ...]
    logarithmic: bool = False
    mark: tuple[float, str] | None = None
    level: tuple[float, str] | None = None


@dataclasses.dataclass(frozen=True)
class Fact:
    """A line of the details.

    Attributes:
        name: Name of what was found.
        value: The finding, as text.
    """

    name: str
    value: str


@dataclasses.dataclass(frozen=True)
class Diagnosis(Record):
    """The verdict on a model, with its evidence.

    Attributes:
        verdict: The cause, or HEALTHY, or INCONCLUSIVE.
        sentence: The verdict in one sentence, with its evidence.
        findings: The findings; those of the verdict first.
        remedies: The remedies that were tried; the most helpful first.
        pictures: The figures; those that carry the verdict first.
        facts: Facts about the model, the data and the run.
        missing_evidence: Arguments and data that would allow a more certain verdict.
        seconds: Duration of the diagnosis.
        budget: Allowed duration in seconds.
        model: Class of the model, and its recurrent layers.
    """

    former_names: ClassVar[Mapping[str, str]] = {"asks": "missing_evidence"}

    verdict: Cause
    sentence: str
    findings: tuple[Finding, ...]
    remedies: tuple[Remedy, ...]
    pictures: tuple[Picture, ...]
    facts: tuple[Fact, ...]
    missing_evidence: tuple[str, ...]
    seconds: float
    budget: float
    model: str

    @property
    def faulty(self) -> bool:
        """True if the verdict is a fault; False if it is good, or inconclusive."""
        return self.verdict not in (
            Cause.HEALTHY,
            Cause.NO_LONG_DEPENDENCY,
            Cause.INCONCLUSIVE,
        )

    def __str__(self) -> str:
        """Return the whole diagnosis as text of 80 columns."""
        return views_of(self).text(self)

    def __repr__(self) -> str:
        # one line: pictures hold thousands of numbers
        return (
            f"<Diagnosis of {self.model}: {self.verdict.value}, "
            f"findings={len(self.findings)}, remedies={len(self.remedies)}>"
        )

    def __rich_console__(self, console: Any, options: Any) -> Iterator[Any]:
        """Yield the diagnosis in colours, as wide as the terminal, for rich."""
        yield views_of(self).terminal(self)

    def _repr_html_(self) -> str:
        """Return HTML for a notebook."""
        return views_of(self).fragment(self)


@dataclasses.dataclass(frozen=True)
class Measurement(Record):
    """The outcome of one instrument.

    Attributes:
        instrument: Name of the instrument, "gradient_flow".
        layer: Name of the recurrent layer; "" where the instrument measures the whole model.
        result: The result; None where the instrument could not measure.
        refusal: The reason why there is no result; "" otherwise.
        seconds: Time that the instrument took.
    """

    instrument: str
    layer: str
    result: Record | None
    refusal: str
    seconds: float


@dataclasses.dataclass(frozen=True)
class Inspection(Record):
    """Measurements of one model by several instruments.

    Attributes:
        model: Class of the model and of its recurrent layer.
        source: Origin of the model, as the command line names it.
        lag: Steps between an answer and the inputs that it depends on; None if not known.
        measurements: One for each instrument, in the order of the request.
        facts: Lines about the model and its data.
    """

    model: str
    source: str
    lag: int | None
    measurements: tuple[Measurement, ...]
    facts: tuple[Fact, ...]

    def __str__(self) -> str:
        """Return the findings of all instruments as text of 80 columns."""
        return views_of(self).text(self)

    def __repr__(self) -> str:
        # one line: results hold thousands of numbers
        names = ", ".join(measurement.instrument for measurement in self.measurements)
        return f"<Inspection of {self.model}: {names}>"

    def __rich_console__(self, console: Any, options: Any) -> Iterator[Any]:
        """Yield the findings in colours, as wide as the terminal, for rich."""
        yield views_of(self).terminal(self)

    def _repr_html_(self) -> str:
        """Return HTML for a notebook."""
        return views_of(self).fragment(self)
