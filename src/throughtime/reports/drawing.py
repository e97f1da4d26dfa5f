"""Any picture as a figure: its curves, and its y axis."""

import dataclasses
import html
import math
from collections.abc import Sequence
from itertools import groupby
from typing import Any, final

import plotly.graph_objects as go

from throughtime.reports.lines import TEMPLATE, band, colour, guide, line, short, thinned, wrapped
from throughtime.results.diagnosis import Picture, Series

DECADES = 16
"""Largest number of decades of a logarithmic axis."""

LEAST = 0.05
"""Least span of a linear axis, as a share of the largest value."""

LARGEST = 1e300
"""Limit beyond which a value counts as infinite: sums of two would overflow."""


@final
class ValueAxis:
    """A picture's y axis.

    Values without a place are drawn at its edges, where a tick names them: zero and less on a
    logarithmic axis, and what is infinite.

    Arguments:
        picture: Picture with the values.

    Attributes:
        logarithmic: If True, the axis is logarithmic.
        low, high: Range, as powers of ten on a logarithmic axis.
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
            # values that hardly differ shall not look different
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
        """Return True if a value has a place on the axis."""
        return abs(value) <= LARGEST and (value > 0 or not self.logarithmic)

    def edge(self, *, top: bool) -> float:
        """Return the place of a value that the axis cannot show."""
        return self._value(self._top if top else self._bottom)

    def clamp(self, value: float) -> float:
        """Return the end of a band, moved to within reach of the axis."""
        reach = self.high - self.low
        if self.logarithmic and value <= 0:
            return self._value(self.low - reach)
        position = self._position(value) if math.isfinite(value) else value
        return self._value(min(max(position, self.low - reach), self.high + reach))

    def apply(self, figure: go.Figure) -> None:
        """Set the range and the ticks of a figure."""
        figure.update_yaxes(range=[self.low, self.high])
        if not self.logarithmic and not (self._up or self._down):
            return
        ticks = self.ticks()
        figure.update_yaxes(
            tickvals=[self._value(at) for at, _ in ticks], ticktext=[text for _, text in ticks]
        )
        if self.logarithmic:
            figure.update_yaxes(type="log")

    def ticks(self) -> list[tuple[float, str]]:
        """Return ticks by position, with those of the edges; HTML for powers of ten."""
        ends = [(self._bottom, "0" if self.logarithmic else "-∞")] if self._down else []
        ends += [(self._top, "∞")] if self._up else []
        ticks = (_powers if self.logarithmic else round_ticks)(self.low, self.high)
        return [(at, text) for at, text in ticks if self._clear(at)] + ends

    def _clear(self, at: float) -> bool:
        """Return True if a tick is far enough from those of the edges."""
        gap = 0.06 * (self.high - self.low)
        return (not self._down or at > self._bottom + gap) and (
            not self._up or at < self._top - gap
        )


def _powers(low: float, high: float) -> list[tuple[float, str]]:
    """Ticks between two powers of ten: some six of them."""
    if high - low < 0.3:  # less than a factor of two
        return [(math.log10(float(text)), text) for _, text in round_ticks(10**low, 10**high)]
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


def round_ticks(low: float, high: float) -> list[tuple[float, str]]:
    """Return ticks at round numbers between two, some six of them."""
    raw = (high - low) / 6
    unit = 10.0 ** math.floor(math.log10(raw))
    step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= raw)
    ticks = [k * step for k in range(math.ceil(low / step), math.floor(high / step) + 1)]
    return [(at, f"{at:.4g}") for at in ticks]


def draw(picture: Picture) -> go.Figure:
    """Return a picture as a plotly figure: lines, their bands, its mark and its level.

    On a logarithmic axis zero has no place: it is drawn as a triangle at the lower edge, where the
    tick is "0". An infinite value is a triangle at the upper edge, or the lower one; what is not
    a number is a gap. A logarithmic axis shows no more than 16 decades below its largest value.

    Example:
        >>> picture = Picture("It halves.", "", "lag", "norm", (Series("lstm", (0, 1), (1, 0.5)),))
        >>> [trace.y for trace in draw(picture).data]
        [(1.0, 0.5)]
    """
    axis = ValueAxis(picture)
    figure = go.Figure()
    for index, series in enumerate(picture.series):
        _draw_series(figure, index, series, axis)
    axis.apply(figure)
    if picture.level is not None and axis.shows(picture.level[0]):
        text = wrapped(picture.level[1], 36)
        guide(figure, text, y=picture.level[0], logarithmic=axis.logarithmic, inside=True)
    marked = picture.mark is not None and math.isfinite(picture.mark[0])
    known = [x for series in picture.series for x in series.x if math.isfinite(x)]
    known += [picture.mark[0]] if picture.mark is not None and marked else []
    first, last = min(known, default=0.0), max(known, default=1.0)
    pad = 0.015 * (last - first) or 0.5
    # by hand: plotly would make room for the label of a mark
    figure.update_xaxes(range=[first - pad, last + pad])
    above = ""
    if picture.mark is not None and marked:
        late = 2 * picture.mark[0] > first + last
        above = wrapped(picture.mark[1], 34)
        guide(figure, above, x=picture.mark[0], anchor="right" if late else "left")
    figure.update_shapes(layer="above")
    figure.update_xaxes(title_text=wrapped(picture.x_label, 40))
    figure.update_yaxes(title_text=wrapped(picture.y_label, 40))
    figure.update_layout(
        template=TEMPLATE,
        title={"text": wrapped(picture.title, 70), "x": 0, "xref": "container"},
        showlegend=len(picture.series) > 1,
        margin={"t": 24 + 16 * above.count("<br>"), "r": 16},
    )
    return figure


def empty(picture: Picture) -> bool:
    """Return True if no value of a picture is a number."""
    return all(math.isnan(y) for series in picture.series for y in series.y)


def _draw_series(figure: go.Figure, index: int, series: Series, axis: ValueAxis) -> None:
    points = list(zip(series.x, series.y, strict=True))
    if series.low:
        rows = zip(series.x, series.low, series.high, strict=True)
        for known, run in groupby(rows, key=lambda r: not (math.isnan(r[1]) or math.isnan(r[2]))):
            at, low, high = zip(*run, strict=True)
            if known and len(at) > 1:
                band(figure, index, at, [*map(axis.clamp, low)], [*map(axis.clamp, high)])
    values = [short(y) if axis.shows(y) else None for _, y in points]
    name = html.escape(series.label, quote=False)
    line(figure, index, name, [x for x, _ in points], values)
    lonely = [k for k in range(len(values)) if _lonely(values, k)]
    if lonely and len(values) > 1:
        _markers(figure, index, name, [(points[k][0], values[k]) for k in lonely], "circle", "")
    for top, text, chosen in (
        (True, "∞", [x for x, y in points if y > LARGEST]),
        (False, "-∞", [x for x, y in points if y < -LARGEST]),
        (False, "0", [x for x, y in points if y == 0 and axis.logarithmic]),
        (False, "below 0", [x for x, y in points if -LARGEST <= y < 0 and axis.logarithmic]),
    ):
        if chosen:
            at = axis.edge(top=top)
            symbol = "triangle-up" if top else "triangle-down"
            _markers(
                figure,
                index,
                name,
                [(chosen[k], at) for k in thinned(len(chosen), 60)],
                symbol,
                text,
            )


def _markers(
    figure: go.Figure,
    index: int,
    name: str,
    points: Sequence[tuple[float, float | None]],
    symbol: str,
    text: str,
) -> None:
    figure.add_trace(
        go.Scatter(
            x=[x for x, _ in points],
            y=[y for _, y in points],
            mode="markers",
            name=name,
            marker={"symbol": symbol, "size": 7, "color": colour(index)},
            meta={"series": index, "role": "edge" if text else "points"},
            showlegend=False,
            cliponaxis=False,
            **({"hovertemplate": f"{text} %{{fullData.name}}<extra></extra>"} if text else {}),
            **({} if text else {"hoverinfo": "skip"}),
        )
    )


def _lonely(values: Sequence[float | None], k: int) -> bool:
    """Return True if a point has no neighbour to draw a line to."""
    around = [values[j] for j in (k - 1, k + 1) if 0 <= j < len(values)]
    return values[k] is not None and all(value is None for value in around)


@final
@dataclasses.dataclass(frozen=True, eq=False)
class Drawing:
    """A figure that is no picture of lines: a plane, a map of colours.

    Attributes:
        title: Finding that the figure shows, as a sentence.
        caption: Explanation of the figure.
        labels: Labels of the series, in the order of their colours; empty without a legend.
        figure: The plotly figure; each trace's `meta` names its series and role, as in `lines`.
    """

    title: str
    caption: str
    labels: tuple[str, ...]
    figure: go.Figure

    @property
    def y_label(self) -> str:
        """The name of the y axis."""
        layout: Any = self.figure.layout
        return layout.yaxis.title.text or ""
