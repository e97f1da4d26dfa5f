"""The y axis of a picture: its range, its ticks, and where values lie that it cannot show."""

import math
from typing import final

import plotly.graph_objects as go

from throughtime.reports.lines import short
from throughtime.results.diagnosis import Picture

DECADES = 16
"""That a logarithmic axis shows at most."""

LEAST = 0.05
"""Of the largest value: the least span of a linear axis."""

LARGEST = 1e300
"""Beyond it a value is as good as infinite, and sums of two would overflow."""


@final
class ValueAxis:
    """A picture's y axis.

    Values without a place are drawn at its edges, where a tick names them: zero and less on a
    logarithmic axis, and what is infinite.

    Arguments:
        picture: whose values it shows.

    Attributes:
        logarithmic: whether it is.
        low, high: its range, as powers of ten where it is logarithmic.
    """

    def __init__(self, picture: Picture):
        self.logarithmic = picture.logarithmic
        drawn = [y for series in picture.series for y in series.y]
        bands = [y for series in picture.series for y in (*series.low, *series.high)]
        level = [] if picture.level is None else [picture.level[0]]
        self._up = any(y > LARGEST for y in drawn)
        self._down = any(y < -LARGEST or (self.logarithmic and y <= 0) for y in drawn)
        curves = [self._position(y) for y in (*drawn, *level) if self.shows(y)]
        around = [self._position(y) for y in bands if self.shows(y)]
        high = max([*curves, *around], default=1.0)
        low = min([*curves, *around], default=0.0)
        if self.logarithmic:
            # a band that all but touches zero does not stretch the axis, nor do 1e-40 and the like
            low = max(low, min(curves, default=low) - 1, high - DECADES)
        span = high - low
        if span <= 0:
            span = 1.0 if self.logarithmic else max(abs(high), 1.0)
            low, high = low - span / 2, high + span / 2
        elif not self.logarithmic and span < LEAST * max(abs(low), abs(high)):
            # what hardly differs shall not look as if it did
            middle, span = (low + high) / 2, LEAST * max(abs(low), abs(high))
            low, high = middle - span / 2, middle + span / 2
        self.low = low - (0.14 if self._down else 0.06) * span
        self.high = high + (0.14 if self._up else 0.06) * span
        self._bottom = self.low + 0.04 * span
        self._top = self.high - 0.04 * span

    def _position(self, value: float) -> float:
        return math.log10(value) if self.logarithmic else value

    def _value(self, position: float) -> float:
        return short(10 ** min(max(position, -307), 307) if self.logarithmic else position)

    def shows(self, value: float) -> bool:
        """Whether a value has a place on the axis."""
        return abs(value) <= LARGEST and (value > 0 or not self.logarithmic)

    def edge(self, *, top: bool) -> float:
        """Where a value is drawn that has no place.

        Arguments:
            top: at the upper edge, or at the lower one.
        """
        return self._value(self._top if top else self._bottom)

    def clamp(self, value: float) -> float:
        """The end of a band, if it has to be within reach of what the axis shows."""
        reach = self.high - self.low
        if self.logarithmic and value <= 0:
            return self._value(self.low - reach)
        position = self._position(value) if math.isfinite(value) else value
        return self._value(min(max(position, self.low - reach), self.high + reach))

    def apply(self, figure: go.Figure) -> None:
        """Set the range and the ticks of a figure."""
        figure.update_yaxes(range=[self.low, self.high])
        ends = [(self._bottom, "0" if self.logarithmic else "-∞")] if self._down else []
        ends += [(self._top, "∞")] if self._up else []
        if not self.logarithmic and not ends:
            return
        ticks = (_powers if self.logarithmic else _steps)(self.low, self.high)
        ticks = [(at, text) for at, text in ticks if self._clear(at)] + ends
        figure.update_yaxes(
            tickvals=[self._value(at) for at, _ in ticks], ticktext=[text for _, text in ticks]
        )
        if self.logarithmic:
            figure.update_yaxes(type="log")

    def _clear(self, at: float) -> bool:
        """Whether a tick is far enough from those of the edges."""
        gap = 0.06 * (self.high - self.low)
        return (not self._down or at > self._bottom + gap) and (
            not self._up or at < self._top - gap
        )


def _powers(low: float, high: float) -> list[tuple[float, str]]:
    """Ticks between two powers of ten: some six of them."""
    if high - low < 2.5:
        factors = (1, 2, 5) if high - low > 0.7 else (1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9)
        powers = range(math.floor(low), math.ceil(high) + 1)
        found = [power + math.log10(factor) for power in powers for factor in factors]
        return [(at, f"{10**at:.3g}") for at in found if low <= at <= high]
    step = max(1, math.ceil((high - low) / 6))
    powers = range(math.ceil(low / step) * step, math.floor(high) + 1, step)
    return [(k, _power(k)) for k in powers]


def _power(exponent: int) -> str:
    if -4 < exponent < 5:
        return f"{10.0**exponent:,.{max(0, -exponent)}f}"
    return f"10<sup>{exponent}</sup>"


def _steps(low: float, high: float) -> list[tuple[float, str]]:
    """Ticks at round numbers between two: some six of them."""
    raw = (high - low) / 6
    unit = 10.0 ** math.floor(math.log10(raw))
    step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= raw)
    ticks = [k * step for k in range(math.ceil(low / step), math.floor(high / step) + 1)]
    return [(at, f"{at:.4g}") for at in ticks]
