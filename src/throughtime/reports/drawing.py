"""Any picture of a diagnosis as a figure."""

import dataclasses
import html
import math
from collections.abc import Sequence
from itertools import groupby
from typing import final

import plotly.graph_objects as go

from throughtime.reports.lines import TEMPLATE, band, colour, guide, line, short, wrapped
from throughtime.reports.value_axis import LARGEST, ValueAxis
from throughtime.results.diagnosis import Picture, Series


def draw(picture: Picture) -> go.Figure:
    """A picture as a plotly figure: lines, their bands, its mark and its level.

    On a logarithmic axis zero has no place: it is drawn as a triangle at the lower edge, where the
    axis says "0". An infinite value is a triangle at the upper edge, or the lower one; what is not
    a number is a gap. A logarithmic axis shows no more than 16 decades below its largest value.

    Arguments:
        picture: any; one without a single number gives empty axes.

    Returns:
        The figure, with colours for standing alone, which a page replaces by its own.

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
    """Whether a picture has nothing to draw: no value that is a number."""
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
            _markers(figure, index, name, [(x, at) for x in _thinned(chosen)], symbol, text)


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
    """Whether a point has no neighbour to draw a line to."""
    around = [values[j] for j in (k - 1, k + 1) if 0 <= j < len(values)]
    return values[k] is not None and all(value is None for value in around)


def _thinned(values: Sequence[float], most: int = 60) -> Sequence[float]:
    """Some of many values, the first and the last among them."""
    if len(values) <= most:
        return values
    return [values[round(k * (len(values) - 1) / (most - 1))] for k in range(most)]


@final
@dataclasses.dataclass(frozen=True, eq=False)
class Drawing:
    """A figure that is no picture of lines: a plane, a map of colours.

    Attributes:
        title: what it shows, as a sentence.
        caption: how to read it.
        y_label: of the upright axis, with its unit.
        labels: of its series, in the order of their colours; empty where they need no legend.
        figure: of plotly; each trace's `meta` names its series and role, as `lines` says.
    """

    title: str
    caption: str
    y_label: str
    labels: tuple[str, ...]
    figure: go.Figure
