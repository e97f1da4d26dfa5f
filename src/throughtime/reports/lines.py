"""Curves, bands and guides of a figure, without colours of their own: a page brings its theme.

Each trace carries `meta = {"series": i, "role": ...}`; the page colours series i, draws a role
"band" translucent, and can switch a series off."""

import html
import math
import textwrap
from collections.abc import Sequence
from typing import Any, Literal

import plotly.graph_objects as go
import torch
from torch import Tensor

from throughtime.reports.numbers import count, number
from throughtime.results.diagnosis import Series

DASHES = ("solid", "dash", "dot", "dashdot", "longdash")
"""Dashes of the series of a figure, in order."""

COLOURS = (
    *("#0072b2", "#d55e00", "#008563", "#b5588c"),
    *("#8a6400", "#2f9bd6", "#5b5f66", "#6a51a3"),
)
"""Colours of the series of a figure without a page; a page has its own."""

TEMPLATE = go.layout.Template(
    layout={
        "colorway": COLOURS,
        "font": {"family": "system-ui, sans-serif", "size": 13},
        "title": {"font": {"size": 16}},
        "hovermode": "x unified",
        "plot_bgcolor": "white",
        "xaxis": {"gridcolor": "#e9ebee", "zeroline": False, "automargin": True},
        "yaxis": {"gridcolor": "#e9ebee", "zeroline": False, "automargin": True},
    }
)
"""Layout of a figure without a page."""


def line(
    figure: go.Figure,
    index: int,
    name: str,
    x: Sequence[float],
    y: Sequence[float | None],
) -> None:
    """Add a curve."""
    figure.add_trace(
        go.Scatter(
            x=list(x),
            y=list(y),
            mode="lines" if len(x) > 1 else "markers",
            name=name,
            line={"dash": DASHES[index % len(DASHES)], "width": 2.5, "color": colour(index)},
            marker={"color": colour(index)},
            meta={"series": index, "role": "line"},
        )
    )


def band(
    figure: go.Figure, index: int, x: Sequence[float], low: Sequence[float], high: Sequence[float]
) -> None:
    """Add a band between two curves."""
    at = list(x)
    figure.add_trace(
        go.Scatter(
            x=at + at[::-1],
            y=[*high, *reversed(low)],
            fill="toself",
            fillcolor=translucent(colour(index)),
            mode="none",
            hoverinfo="skip",
            showlegend=False,
            meta={"series": index, "role": "band"},
        )
    )


def guide(
    figure: go.Figure,
    text: str,
    *,
    x: float | None = None,
    y: float | None = None,
    anchor: Literal["left", "right"] = "right",
    logarithmic: bool = False,
    inside: bool = False,
) -> None:
    """Add a thin line across the figure, with its label above or to the right.

    Arguments:
        figure: Figure to change.
        text: Text of the label.
        x, y: Place of the line; one of the two.
        anchor: End of a label above that touches the line.
        logarithmic: If True, the y axis is logarithmic.
        inside: If True, the label of a level lies on the line, within the figure.
    """
    ends: dict[str, Any] = (
        {"x0": x, "x1": x, "y0": 0, "y1": 1, "yref": "paper"}
        if x is not None
        else {"x0": 0, "x1": 1, "xref": "paper", "y0": y, "y1": y}
    )
    figure.add_shape(type="line", line={"width": 1, "dash": "dot"}, layer="below", **ends)
    place: dict[str, Any] = (
        {"x": x, "xanchor": anchor, "y": 1, "yref": "paper", "yanchor": "bottom"}
        if x is not None
        else {
            "x": 1,
            "xref": "paper",
            "xanchor": "right",
            "yanchor": "bottom",
            "align": "right",
            "bgcolor": "rgba(255,255,255,0.8)",
            "borderpad": 1,
        }
        if inside
        else {"x": 1, "xref": "paper", "xanchor": "left", "yanchor": "middle"}
    )
    if y is not None:
        place["y"] = math.log10(y) if logarithmic else y
    figure.add_annotation(text=text, showarrow=False, font={"size": 12}, **place)


def ladder(shown: Sequence[float]) -> tuple[list[float], list[str]]:
    """Return ticks of a log axis: 1, 2 and 5 times powers of ten; over many decades, powers."""
    low, high = (
        math.floor(math.log10(edge)) for edge in (min(shown, default=1), max(shown, default=1))
    )
    factors = (1, 2, 5) if high - low < 3 else (1,)
    values = [factor * 10.0**power for power in range(low, high + 2) for factor in factors]
    return values, [f"{value:.3g}" for value in values]


def short(value: float) -> float:
    """Return a number with five significant digits: enough for a figure, in a small file."""
    return float(f"{value:.5g}")


def wrapped(text: str, width: int) -> str:
    """Return a text as plotly writes it: without markup, in at most two lines.

    Example:
        >>> wrapped("a label that is <b>too</b> long for a line, and for two", 20)
        'a label that is<br>&lt;b&gt;too&lt;/b&gt; long for…'
    """
    parts = textwrap.wrap(text, width)
    if len(parts) > 2:
        parts = [parts[0], parts[1][: width - 1] + "…"]
    return "<br>".join(html.escape(part, quote=False) for part in parts)


def colour(index: int) -> str:
    """Return the colour of a series in a figure without a page."""
    return COLOURS[index % len(COLOURS)]


def translucent(opaque: str) -> str:
    """Return a translucent colour for bands."""
    red, green, blue = (int(opaque[k : k + 2], 16) for k in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.16)"


def by_index(
    label: str, values: Tensor, *, low: Tensor | None = None, high: Tensor | None = None
) -> Series:
    """Return a curve over 0, 1, 2 ..., thinned where it has more points than a screen."""
    chosen = torch.tensor(thinned(len(values)), dtype=torch.int64)
    edges = {k: v[chosen] for k, v in (("low", low), ("high", high)) if v is not None}
    return points(label, chosen, values[chosen], **edges)


def thinned(size: int, most: int = 2000) -> Sequence[int]:
    """Return evenly spaced indices below `size`, the first and the last among them.

    Example:
        >>> [*thinned(3)], [*thinned(9, most=3)]
        ([0, 1, 2], [0, 4, 8])
    """
    if size <= most:
        return range(size)
    return [round(k * (size - 1) / (most - 1)) for k in range(most)]


def relative(norms: Tensor) -> Tensor:
    """Return norms relative to the largest that is finite."""
    largest = float(torch.where(norms.isfinite(), norms, 0.0).max())
    return norms / largest if largest > 0 else norms


def points(
    label: str,
    x: Tensor,
    values: Tensor,
    *,
    low: Tensor | None = None,
    high: Tensor | None = None,
) -> Series:
    """Return a curve through given points."""
    rows = [() if v is None else tuple(v.double().tolist()) for v in (x, values, low, high)]
    return Series(label, *rows)


def due(needed: float | None) -> tuple[float, str] | None:
    """Return the mark of a picture by lag: the steps that the answer needs, if known."""
    return None if needed is None else (float(needed), f"needed, {count(needed)}")


def steps(n: float) -> str:
    """Return a number of steps in words.

    Example:
        >>> steps(1), steps(1200), steps(1.25)
        ('1 step', '1,200 steps', '1.25 steps')
    """
    return "1 step" if n == 1 else f"{number(n)} steps"
