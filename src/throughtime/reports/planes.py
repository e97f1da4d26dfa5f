"""Drawings of results that are no curves: planes of states, maps of colours, maps of one number."""

import html
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from throughtime.foreign.recording import Recording
from throughtime.instruments.basins import Basins
from throughtime.instruments.fixed_points import FixedPoints
from throughtime.instruments.gradient_flow import GradientFlow
from throughtime.instruments.scalar_maps import (
    Bifurcation,
    Cycles,
    PhaseLine,
    ScalarFixedPoints,
    ScalarMap,
)
from throughtime.reports.drawing import Drawing
from throughtime.reports.lines import COLOURS, TEMPLATE, colour, line, steps, thinned
from throughtime.reports.numbers import count, number

COLUMNS, ROWS = 240, 120
"""Largest numbers of cells of a map of colours that a screen can show."""

MOST = 6
"""Largest number of points whose eigenvalues are drawn: more cannot be distinguished."""

_SYMBOLS = ("circle", "x", "diamond", "cross", "square", "triangle-up")
_OF_KIND = {"sink": "circle", "source": "circle-open", "marginal": "diamond-open"}
_FILLED = "Filled: attracting. Open: repelling, or on the border."


def gradient_by_unit(flow: GradientFlow) -> Drawing:
    """Draw log10 |dL/dh_t| of each unit by lag.

    Units that carry most of the gradient come first. Where there are more units or steps than a
    screen can show, a cell is the largest of its units and steps.
    """
    values = flow.per_unit.flip(0).T  # unit, lag
    carried = torch.where(values.isfinite(), values, 0.0).sum(1)
    values = values[carried.argsort(descending=True, stable=True)]
    silent = int((carried == 0).sum())
    figure = map_of_colours(
        values.log10(),
        ("lag: steps before the last one", "unit, sorted"),
        across=(0, values.shape[1] - 1),
        up=(1, len(values)),
        unit="10<sup>x</sup>",
    )
    figure.update_yaxes(autorange="reversed")
    return Drawing(
        title=f"{silent} of {len(values)} units carry no gradient at all."
        if silent
        else f"The gradient of each of {len(values)} units.",
        caption="log10 of |∂L/∂h| of each unit, over the batch. Units that carry most come first. "
        "Blank: exactly zero, or not a number.",
        labels=(),
        figure=figure,
    )


def recorded_outputs(recording: Recording) -> Drawing:
    """Draw the outputs of one sequence of a recording by step."""
    values = recording.outputs[: int(recording.valid_lengths()[0]), 0].T
    figure = map_of_colours(
        values,
        ("step", "unit"),
        across=(0, values.shape[1] - 1),
        up=(1, len(values)),
        unit="h",
        middle=0.0,
    )
    figure.update_yaxes(autorange="reversed")
    return Drawing(
        title=f"The outputs of {count(len(values))} units over {count(values.shape[1])} steps.",
        caption="Outputs of the layer for the first sequence of the batch.",
        labels=(),
        figure=figure,
    )


def map_of_colours(
    values: Tensor,
    axes: tuple[str, str] = ("", ""),
    *,
    across: tuple[float, float],
    up: tuple[float, float],
    unit: str = "",
    middle: float | None = None,
    ends: tuple[float, float] | None = None,
) -> go.Figure:
    """Return a matrix as a map of colours, which all kinds of colour vision can read.

    Arguments:
        values: The matrix, (rows, columns). Values that are not finite are left blank.
        axes: Names of the axes.
        across: Places of the first and the last column on the axis.
        up: Places of the first and the last row.
        unit: Text above the scale of colours.
        middle: Value whose colour is neutral, for values of both signs; None for none.
        ends: Values of the first and the last colour; None for the smallest and the largest value.
    """
    finite = torch.where(values.isfinite(), values.double(), -math.inf)
    rows, columns = (
        math.ceil(max(values.shape[k], 1) / most) for k, most in ((0, ROWS), (1, COLUMNS))
    )
    if rows > 1 or columns > 1:
        padded = F.pad(
            finite,
            (0, -finite.shape[1] % columns, 0, -finite.shape[0] % rows),
            value=-math.inf,
        )
        finite = F.max_pool2d(padded[None], (rows, columns))[0]
    shown = torch.where(finite.isfinite(), finite, math.nan)
    heatmap = go.Heatmap(
        z=np.asarray(shown, dtype=np.float32),
        x=_places(*across, shown.shape[1]),
        y=_places(*up, shown.shape[0]),
        colorscale="Cividis" if middle is None else "RdBu",
        zmid=middle,
        zmin=None if ends is None else ends[0],
        zmax=None if ends is None else ends[1],
        colorbar={"thickness": 12, "title": {"text": unit}},
        hovertemplate="%{x:.4~g}, %{y:.4~g}: %{z:.3g}<extra></extra>",
        meta={"series": 0, "role": "map"},
    )
    return plane(*axes, heatmap, grid=False)


def _places(first: float, last: float, n: int) -> list[float]:
    """Return n evenly spaced places between two; of one, the middle."""
    return np.linspace(first, last, n).tolist() if n > 1 else [(first + last) / 2]


def regions(
    index: Tensor,
    axes: tuple[str, str] = ("", ""),
    *,
    across: tuple[float, float],
    up: tuple[float, float],
    names: Sequence[str],
    marked: Mapping[str, Tensor] | None = None,
) -> go.Figure:
    """Return a plane whose points belong to regions, as the basins of attractors.

    Arguments:
        index: Region of each point, from 0; below 0 for none; (rows, columns).
        axes: Names of the axes.
        across: Places of the first and the last column on the axis.
        up: Places of the first and the last row.
        names: Names of the regions.
        marked: Groups of points by name, such as attractors, each (n, 2): across and up.
    """
    known = np.asarray(index.double(), dtype=np.float32)
    known = np.where(known >= 0, known, np.nan)
    labels = [html.escape(name, quote=False) for name in names]
    n = max(len(names), 1)
    scale = [[(k + end) / n, COLOURS[k % len(COLOURS)]] for k in range(n) for end in (0, 1)]
    figure = plane(
        *axes,
        go.Heatmap(
            z=known,
            x=_places(*across, index.shape[1]),
            y=_places(*up, index.shape[0]),
            zmin=-0.5,
            zmax=n - 0.5,
            colorscale=scale,
            opacity=0.6,
            showscale=False,
            text=[[labels[int(k)] if k >= 0 else "none" for k in row] for row in index.tolist()],
            hovertemplate="%{x:.3g}, %{y:.3g}: %{text}<extra></extra>",
            meta={"series": 0, "role": "regions", "regions": n},
        ),
        grid=False,
    )
    for k, (name, points) in enumerate((marked or {}).items()):
        symbol, shown = _SYMBOLS[k % len(_SYMBOLS)], html.escape(name, quote=False)
        _scatter(figure, -1, shown, points.T, symbol, 10, role="mark", color="black")
    return figure


def basins_of_attraction(basins: Basins, fixed: FixedPoints | None = None) -> Drawing:
    """Draw the attractor in which each start on a plane ends."""
    ends = [k for k in basins.attractor.unique().tolist() if k >= 0]
    index = torch.full_like(basins.attractor, -1)
    for place, k in enumerate(ends):
        index[basins.attractor == k] = place
    names = [f"attractor {k + 1}" for k in ends]
    at = None if fixed is None else basins.plane.coordinates(fixed.states[ends])
    figure = regions(
        index,
        ("first direction of the plane", "second direction of the plane"),
        across=(float(basins.across[0]), float(basins.across[-1])),
        up=(float(basins.up[0]), float(basins.up[-1])),
        names=names,
        marked=None if at is None else {name: at[[k]] for k, name in enumerate(names)},
    )
    starts = basins.attractor.numel()
    return Drawing(
        title=f"Starts on this plane end in {count(len(ends))} "
        f"attractor{'' if len(ends) == 1 else 's'}; "
        f"{100 * basins.unsettled / max(starts, 1):.3g} % in none of them.",
        caption="Each point is a start, coloured by the attractor that its trajectory ends in; "
        "blank where it ends in none. A state that crosses a border ends in another attractor. "
        + (f"{count(basins.cycling)} starts end on a cycle." if basins.cycling else ""),
        labels=tuple(names),
        figure=figure,
    )


def fixed_point_map(
    points: FixedPoints, visited: Float[Tensor, "visits size"] | None = None
) -> Drawing:
    """Draw fixed and slow points by their stability, in the plane of largest variance."""
    finite = torch.cat([points.states, *([] if visited is None else [visited])])
    origin = finite.mean(0) if len(finite) else torch.zeros(points.states.shape[1]).double()
    directions, share = _principal(finite - origin)
    figure = plane("first principal component", "second principal component")
    if visited is not None:
        shown = (visited[[*thinned(len(visited))]] - origin) @ directions
        _scatter(figure, 6, "visited states", shown.T, "circle", 3, opacity=0.35)
    kinds = [k if f else f"slow, {k}" for k, f in zip(points.kinds, points.fixed, strict=True)]
    labels = tuple(sorted(set(kinds)))
    for index, kind in enumerate(labels):
        rows = [k for k, own in enumerate(kinds) if own == kind]
        at = (points.states[rows] - origin) @ directions
        _scatter(figure, index, kind, at.T, _SYMBOLS[index % len(_SYMBOLS)], 10)
    fixed, slow = int(points.fixed.sum()), int((~points.fixed).sum())
    return Drawing(
        title=f"Fixed points found: {count(fixed)}, attracting: {len(points.attractors)}, "
        f"slow points: {count(slow)}.",
        caption=f"In the plane of the states' first two principal components, which hold "
        f"{100 * share:.0f} % of their variance. {count(points.searches)} searches; by estimate "
        f"{100 * points.unseen:.3g} % of more of them would find a new one.",
        labels=labels,
        figure=figure,
    )


def eigenvalues(points: FixedPoints) -> Drawing:
    """Draw the eigenvalues of the Jacobian at the first fixed points, and the unit circle."""
    figure = plane("real part", "imaginary part")
    turn = np.linspace(0, 2 * math.pi, 181)
    _reference(figure, "unit circle", np.cos(turn).tolist(), np.sin(turn).tolist())
    shown = range(min(MOST, len(points.kinds)))
    names = [f"{k + 1}: {points.kinds[k]}" for k in shown]
    for k in shown:
        at = torch.view_as_real(points.eigenvalues[k])
        _scatter(figure, k, names[k], at.T, _SYMBOLS[k % len(_SYMBOLS)], 7)
    figure.update_yaxes(scaleanchor="x")
    unstable = int((points.unstable > 0).sum())
    return Drawing(
        title=f"Points with directions that grow: {count(unstable)} of {count(len(points.kinds))}.",
        caption="Eigenvalues of the Jacobian at each point: inside the circle a deviation shrinks, "
        "outside it grows, on it the point remembers."
        + (f" The first {len(names)} points are drawn." if len(names) < len(points.kinds) else ""),
        labels=tuple(names),
        figure=figure,
    )


def _principal(centred: Float[Tensor, "n size"]) -> tuple[Float[Tensor, "size 2"], float]:
    """Return the two directions of largest variance, and their share of the variance."""
    size = centred.shape[1]
    if size < 2 or len(centred) == 0:
        return torch.eye(size, 2, dtype=centred.dtype), 1.0
    directions, values, _ = torch.linalg.svd(centred.T @ centred)
    values = values.sqrt()
    total = float(values.square().sum())
    return directions[:, :2], float(values[:2].square().sum()) / total if total > 0 else 1.0


def plane(x_label: str, y_label: str, *traces: go.Heatmap, grid: bool = True) -> go.Figure:
    """Return a figure with the layout of planes and maps."""
    figure = go.Figure(list(traces))
    figure.update_layout(template=TEMPLATE, hovermode="closest", margin={"t": 24, "r": 16})
    figure.update_xaxes(showgrid=grid, title_text=x_label or None)
    figure.update_yaxes(showgrid=grid, title_text=y_label or None)
    return figure


def _reference(figure: go.Figure, name: str, x: Sequence[float], y: Sequence[float]) -> None:
    """Add a thin dotted curve that other curves are compared with."""
    figure.add_trace(
        go.Scatter(
            x=list(x),
            y=list(y),
            mode="lines",
            name=name,
            line={"width": 1, "dash": "dot", "color": colour(6)},
            hoverinfo="skip",
            meta={"series": 6, "role": "reference"},
        )
    )


def _scatter(
    figure: go.Figure,
    index: int,
    name: str,
    at: Sequence[Tensor] | Float[Tensor, "2 n"],
    symbol: str,
    size: int,
    *,
    role: str = "points",
    **marker: Any,
) -> None:
    """Add points: their series, name, and places across and up."""
    figure.add_trace(
        go.Scatter(
            x=at[0].tolist(),
            y=at[1].tolist(),
            mode="markers",
            name=name,
            marker={"symbol": symbol, "size": size, "color": colour(index), **marker},
            hovertemplate="%{x:.3g}, %{y:.3g}: %{fullData.name}<extra></extra>",
            meta={"series": index, "role": role},
        )
    )


def phase_line(
    phases: PhaseLine,
    f: ScalarMap | None = None,
    stairs: Float[Tensor, "points 2"] | None = None,
) -> Drawing:
    """Draw the fixed points of a map and the direction in which states move."""
    ends = [float(phases.edges[0]), float(phases.edges[-1])]
    fixed = phases.fixed
    if f is None:
        figure = plane("x", "")
        _reference(figure, "x", ends, [0.0, 0.0])
        labels = _by_kind(figure, fixed.kinds, fixed.points, torch.zeros_like(fixed.points))
        _arrows(figure, phases, 0.0)
        figure.update_xaxes(range=ends)
        figure.update_yaxes(range=[-1, 1], showticklabels=False, showgrid=False)
        caption = f"{_FILLED} Arrows: the direction in which states move."
        return Drawing(_fixed_title(fixed), caption, labels, figure)
    x = torch.linspace(ends[0], ends[1], 401, dtype=torch.float64)
    figure = plane("x, before a step", "F(x), after a step")
    _reference(figure, "x", ends, ends)
    line(figure, 0, "F(x)", x.tolist(), f(x).tolist())
    if stairs is not None:
        line(figure, 1, "iteration", stairs[:, 0].tolist(), stairs[:, 1].tolist())
        figure.update_traces(line={"dash": "solid", "width": 1.5}, selector={"name": "iteration"})
    labels = _by_kind(figure, fixed.kinds, fixed.points, fixed.points)
    _arrows(figure, phases, ends[0])
    return Drawing(
        title=_fixed_title(fixed),
        caption="The map and the line F(x) = x cross at fixed points. A fixed point attracts where "
        "the map is less steep than the line. Arrows below: the direction in which states move.",
        labels=("F(x)", *(() if stairs is None else ("iteration",)), *labels),
        figure=figure,
    )


def scalar_fixed_points(found: ScalarFixedPoints) -> Drawing:
    """Draw the fixed points of a map and the slope of the map at each."""
    figure = plane("fixed point", "slope of the map")
    labels = _by_kind(figure, found.kinds, found.points, found.slopes)
    for level in (-1.0, 1.0):
        figure.add_hline(y=level, line={"width": 1, "dash": "dot"})
    return Drawing(
        title=_fixed_title(found),
        caption=f"{_FILLED} A fixed point attracts where the slope is between -1 and 1.",
        labels=labels,
        figure=figure,
    )


def cycles(found: Cycles) -> Drawing:
    """Draw the points of each cycle of a map, by the multiplier of the cycle."""
    figure = plane("cycle", "points of the cycle")
    n, period = found.points.shape
    rows = [kind for kind in found.kinds for _ in range(period)]
    number_of = torch.arange(1, n + 1).repeat_interleave(period)
    labels = _by_kind(figure, rows, number_of, found.points.reshape(-1))
    sinks = sum(kind == "sink" for kind in found.kinds)
    return Drawing(
        title=f"{count(n)} cycles of {steps(period)}, {count(sinks)} of them attracting.",
        caption=f"{_FILLED} The multiplier is the slope of a whole round; the cycles have "
        f"{', '.join(number(float(m)) for m in found.multipliers[:8]) or 'none'}.",
        labels=labels,
        figure=figure,
    )


def bifurcation_diagram(found: Bifurcation, parameter: str = "parameter") -> Drawing:
    """Draw the fixed points of a family of maps by the parameter of the family."""
    figure = plane(parameter, "fixed points")
    labels = _by_kind(figure, found.kinds, found.parameter, found.points, size=5)
    most = int(found.parameter.unique(return_counts=True)[1].max()) if len(found.kinds) else 0
    return Drawing(
        title=f"Up to {count(most)} fixed points, by {parameter}.",
        caption=f"{_FILLED} Where two meet and vanish, a small change of the parameter changes "
        "the end of trajectories.",
        labels=labels,
        figure=figure,
    )


def _fixed_title(found: ScalarFixedPoints) -> str:
    sinks = sum(kind == "sink" for kind in found.kinds)
    return f"{count(len(found.kinds))} fixed points, {count(sinks)} of them attracting."


def _arrows(figure: go.Figure, phases: PhaseLine, y: float) -> None:
    """Draw an arrow for each stretch between fixed points, at one height."""
    edges = phases.edges
    for a, b, way in zip(edges[:-1], edges[1:], phases.directions.tolist(), strict=True):
        if way:
            tip, tail = (0.7, 0.3) if way > 0 else (0.3, 0.7)
            figure.add_annotation(
                x=float(a + tip * (b - a)),
                ax=float(a + tail * (b - a)),
                y=y,
                ay=y,
                xref="x",
                axref="x",
                yref="y",
                ayref="y",
                text="",
                showarrow=True,
                arrowhead=2,
                arrowwidth=1.5,
                arrowcolor=colour(6),
            )


def _by_kind(
    figure: go.Figure, kinds: Sequence[str], x: Tensor, y: Tensor, size: int = 10
) -> tuple[str, ...]:
    """Draw points with a symbol for each kind of stability; return the kinds."""
    names = tuple(sorted(set(kinds)))
    for kind in names:
        rows = [k for k, own in enumerate(kinds) if own == kind]
        _scatter(figure, 2, kind, (x[rows], y[rows]), _OF_KIND[kind], size)
    return names
