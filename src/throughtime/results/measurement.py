"""The results of instruments on one model, beside each other."""

import dataclasses
from collections.abc import Iterator
from typing import Any

from throughtime.results.diagnosis import Fact
from throughtime.results.record import Record
from throughtime.results.views import views_of


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
