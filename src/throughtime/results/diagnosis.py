"""A diagnosis: what is wrong with a model that does not remember, how sure that is, what helped.

Plain values, which the doctor fills in and which tables and pages are made from.
"""

import dataclasses
import enum
from collections.abc import Iterator
from typing import Any, Literal, TypeAlias

from throughtime.results.record import Record
from throughtime.results.views import views_of


class Cause(enum.Enum):
    """Why a recurrent network does not remember, or that it does."""

    HEALTHY = "healthy"
    NO_LONG_DEPENDENCY = "no long dependency"
    TIME_BATCH_SWAPPED = "time and batch swapped"
    STATE_LEAK = "state leak"
    PADDING_READ = "padding read"
    GRADIENT_CUT = "gradient cut"
    VANISHING = "vanishing gradient"
    EXPLODING = "exploding gradient"
    FORGETTING = "forgetting"
    SATURATED = "saturated"
    DEAD_UNITS = "dead units"
    UNDERTRAINED = "undertrained"
    INCONCLUSIVE = "inconclusive"


Severity: TypeAlias = Literal["fault", "warning", "note"]
"""It keeps the model from remembering; it may; it is worth knowing."""

Certainty: TypeAlias = Literal["proved", "measured", "suspected"]
"""By an exact experiment; by numbers whose interval is clear of the threshold; neither."""


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A measured number and its 95 % confidence interval.

    Attributes:
        value: the estimate.
        low, high: ends of the interval; both the value itself where it is exact.
        n: independent measurements behind it.
    """

    value: float
    low: float
    high: float
    n: int


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing that was found.

    Attributes:
        cause: what it points to.
        severity: how much it matters.
        certainty: how it is known.
        statement: one sentence, with the numbers.
        effect: its size, where it has one.
        effect_name: what the size is a size of.
        threshold: from which size on it counts; None where it is a yes or no.
        measured_on: layer, batches, sequences.
        remedy: what to do about it, in a sentence; "" where nothing needs to be done.
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
    """A change that was made to a copy of the model, and what came of it.

    Attributes:
        name: of the change, in a few words.
        code: how to make it, as Python that a reader can paste; "" where it is no code.
        how: "trained": copies with and without it were trained alike, and their losses compared;
            "instruments": only what it does to the untrained copy was measured.
        quantity: what `before` and `after` are: "held-out loss", "gradient at lag 40".
        before: without the change.
        after: with it.
        updates: of each copy; 0 where none was trained.
        helped: whether the difference is clear of the noise, in the right direction.
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
        label: its name.
        x, y: points; a y that is not finite is a gap.
        low, high: a band around y, or empty.
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
        title: what it shows, as a sentence.
        caption: how to read it.
        x_label, y_label: of the axes, with units.
        series: its curves.
        logarithmic: whether the y axis is.
        mark: an x at which a line is drawn, and its label; None for none.
        level: a y at which a line is drawn, and its label; None for none.
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
    """What the doctor found.

    Attributes:
        verdict: the cause, or HEALTHY, or INCONCLUSIVE.
        sentence: the verdict in one sentence, with its evidence.
        findings: what was found, the verdict's first.
        remedies: what was tried, the most helpful first.
        pictures: those that carry the verdict first.
        facts: of the model, the data and the run.
        asks: what to pass or do so that more can be said.
        seconds: that it took.
        budget: seconds that it might have taken.
        model: the class of the model, and its recurrent layers.
    """

    verdict: Cause
    sentence: str
    findings: tuple[Finding, ...]
    remedies: tuple[Remedy, ...]
    pictures: tuple[Picture, ...]
    facts: tuple[Fact, ...]
    asks: tuple[str, ...]
    seconds: float
    budget: float
    model: str

    def __str__(self) -> str:
        """The whole diagnosis as text of 80 columns."""
        return views_of(self).text(self)

    def __repr__(self) -> str:
        # one line: pictures hold thousands of numbers
        return (
            f"<Diagnosis of {self.model}: {self.verdict.value}, "
            f"findings={len(self.findings)}, remedies={len(self.remedies)}>"
        )

    def __rich_console__(self, console: Any, options: Any) -> Iterator[Any]:
        """In colours, as wide as the terminal: what rich prints."""
        yield views_of(self).terminal(self)

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        return views_of(self).fragment(self)
