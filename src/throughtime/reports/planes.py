"""Planes of states and maps of colours, drawn from results of instruments."""

import html
import math
from collections.abc import Mapping, Sequence

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
from throughtime.reports.drawing import Drawing
from throughtime.reports.lines import COLOURS, TEMPLATE, colour, thinned
from throughtime.reports.numbers import count

COLUMNS, ROWS = 240, 120
"""Largest numbers of cells of a map of colours that a screen can show."""

MOST = 6
"""Largest number of points whose eigenvalues are drawn: more cannot be distinguished."""

_SYMBOLS = ("circle", "x", "diamond", "cross", "square", "triangle-up")
_HOVER = "%{x:.3g}, %{y:.3g}: %{fullData.name}<extra></extra>"


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
        values.log10(), across=(0, values.shape[1] - 1), up=(1, len(values)), unit="10<sup>x</sup>"
    )
    figure.update_xaxes(title_text="lag: steps before the last one")
    figure.update_yaxes(title_text="unit, sorted", autorange="reversed")
    return Drawing(
        title=f"{silent} of {len(values)} units carry no gradient at all."
        if silent
        else f"The gradient of each of {len(values)} units.",
        caption="log10 of |∂L/∂h| of each unit, over the batch. Units that carry most come first. "
        "Blank: exactly zero, or not a number.",
        y_label="unit, sorted",
        labels=(),
        figure=figure,
    )


def recorded_outputs(recording: Recording) -> Drawing:
    """Draw the outputs of one sequence of a recording by step."""
    values = recording.outputs[: int(recording.valid_lengths()[0]), 0].T
    figure = map_of_colours(
        values, across=(0, values.shape[1] - 1), up=(1, len(values)), unit="h", middle=0.0
    )
    figure.update_xaxes(title_text="step")
    figure.update_yaxes(title_text="unit", autorange="reversed")
    return Drawing(
        title=f"The outputs of {count(len(values))} units over {count(values.shape[1])} steps.",
        caption="Outputs of the layer for the first sequence of the batch.",
        y_label="unit",
        labels=(),
        figure=figure,
    )


def map_of_colours(
    values: Tensor,
    *,
    across: tuple[float, float],
    up: tuple[float, float],
    unit: str = "",
    middle: float | None = None,
) -> go.Figure:
    """Return a matrix as a map of colours, which all kinds of colour vision can read.

    Arguments:
        values: The matrix, (rows, columns). Values that are not finite are left blank.
        across: Places of the first and the last column on the axis.
        up: Places of the first and the last row.
        unit: Text above the scale of colours.
        middle: Value whose colour is neutral, for values of both signs; None for none.
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
        x=_middles(*across, shown.shape[1]),
        y=_middles(*up, shown.shape[0]),
        colorscale="Cividis" if middle is None else "RdBu",
        zmid=middle,
        colorbar={"thickness": 12, "title": {"text": unit}},
        hovertemplate="%{x:.4~g}, %{y:.4~g}: %{z:.3g}<extra></extra>",
        meta={"series": 0, "role": "map"},
    )
    return plane(heatmap, grid=False)


def _middles(first: float, last: float, n: int) -> list[float]:
    """Return n evenly spaced places between two; of one, the middle."""
    if n == 1:
        return [(first + last) / 2]
    return [first + (last - first) * k / (n - 1) for k in range(n)]


def regions(
    index: Tensor,
    *,
    across: tuple[float, float],
    up: tuple[float, float],
    names: Sequence[str],
    marked: Mapping[str, Tensor] | None = None,
) -> go.Figure:
    """Return a plane whose points belong to regions, as the basins of attractors.

    Arguments:
        index: Region of each point, from 0; below 0 for none; (rows, columns).
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
        go.Heatmap(
            z=known,
            x=_middles(*across, index.shape[1]),
            y=_middles(*up, index.shape[0]),
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
        figure.add_trace(
            go.Scatter(
                x=points[:, 0].tolist(),
                y=points[:, 1].tolist(),
                mode="markers",
                name=html.escape(name, quote=False),
                marker={"symbol": _SYMBOLS[k % len(_SYMBOLS)], "size": 10, "color": "black"},
                hovertemplate=_HOVER,
                meta={"series": -1, "role": "mark"},
            )
        )
    return figure


def basins_of_attraction(basins: Basins, fixed: FixedPoints | None = None) -> Drawing:
    """Draw the attractor in which each start on a plane ends.

    Arguments:
        basins: The basins of a cell.
        fixed: Fixed points that the basins were computed with, to mark the attractors; or None.
    """
    ends = [k for k in basins.attractor.unique().tolist() if k >= 0]
    index = torch.full_like(basins.attractor, -1)
    for place, k in enumerate(ends):
        index[basins.attractor == k] = place
    names = [f"attractor {k + 1}" for k in ends]
    at = None if fixed is None else basins.plane.coordinates(fixed.states[ends])
    figure = regions(
        index,
        across=(float(basins.across[0]), float(basins.across[-1])),
        up=(float(basins.up[0]), float(basins.up[-1])),
        names=names,
        marked=None if at is None else {name: at[[k]] for k, name in enumerate(names)},
    )
    figure.update_xaxes(title_text="first direction of the plane")
    figure.update_yaxes(title_text="second direction of the plane")
    starts = basins.attractor.numel()
    return Drawing(
        title=f"Starts on this plane end in {count(len(ends))} "
        f"attractor{'' if len(ends) == 1 else 's'}; "
        f"{100 * basins.unsettled / max(starts, 1):.3g} % in none of them.",
        caption="Each point is a start, coloured by the attractor that its trajectory ends in; "
        "blank where it ends in none. A state that crosses a border ends in another attractor. "
        + (f"{count(basins.cycling)} starts end on a cycle." if basins.cycling else ""),
        y_label="second direction of the plane",
        labels=tuple(names),
        figure=figure,
    )


def fixed_point_map(
    points: FixedPoints, visited: Float[Tensor, "visits size"] | None = None
) -> Drawing:
    """Draw fixed and slow points by their stability, in the plane of largest variance.

    Arguments:
        points: Fixed points of a cell.
        visited: States of the cell, as `visited_states` returns them, for a background; or None.
    """
    finite = torch.cat([points.states, *([] if visited is None else [visited])])
    origin = finite.mean(0) if len(finite) else torch.zeros(points.states.shape[1]).double()
    directions, share = _principal(finite - origin)
    labels: list[str] = []
    figure = plane()
    if visited is not None:
        shown = (visited[[*thinned(len(visited))]] - origin) @ directions
        _scatter(figure, 6, "visited states", shown, symbol="circle", size=3, opacity=0.35)
    kinds = [k if f else f"slow, {k}" for k, f in zip(points.kinds, points.fixed, strict=True)]
    for index, kind in enumerate(sorted(set(kinds))):
        rows = [k for k, own in enumerate(kinds) if own == kind]
        at = (points.states[rows] - origin) @ directions
        _scatter(figure, index, kind, at, symbol=_SYMBOLS[index % len(_SYMBOLS)], size=10)
        labels.append(kind)
    figure.update_xaxes(title_text="first principal component")
    figure.update_yaxes(title_text="second principal component")
    fixed, slow = int(points.fixed.sum()), int((~points.fixed).sum())
    return Drawing(
        title=f"Fixed points found: {count(fixed)}, attracting: {len(points.attractors)}, "
        f"slow points: {count(slow)}.",
        caption=f"In the plane of the states' first two principal components, which hold "
        f"{100 * share:.0f} % of their variance. {count(points.searches)} searches; by estimate "
        f"{100 * points.unseen:.3g} % of more of them would find a new one.",
        y_label="second principal component",
        labels=tuple(labels),
        figure=figure,
    )


def eigenvalues(points: FixedPoints) -> Drawing:
    """Draw the eigenvalues of the Jacobian at the first fixed points, and the unit circle."""
    figure = plane()
    turn = [2 * math.pi * k / 180 for k in range(181)]
    reference(figure, "unit circle", [math.cos(a) for a in turn], [math.sin(a) for a in turn])
    shown = range(min(MOST, len(points.kinds)))
    names = [f"{k + 1}: {points.kinds[k]}" for k in shown]
    for k in shown:
        at = torch.view_as_real(points.eigenvalues[k])
        _scatter(figure, k, names[k], at, symbol=_SYMBOLS[k % len(_SYMBOLS)], size=7)
    figure.update_xaxes(title_text="real part")
    figure.update_yaxes(title_text="imaginary part", scaleanchor="x")
    unstable = int((points.unstable > 0).sum())
    return Drawing(
        title=f"Points with directions that grow: {count(unstable)} of {count(len(points.kinds))}.",
        caption="Eigenvalues of the Jacobian at each point: inside the circle a deviation shrinks, "
        "outside it grows, on it the point remembers."
        + (f" The first {len(names)} points are drawn." if len(names) < len(points.kinds) else ""),
        y_label="imaginary part",
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


def plane(*traces: go.Heatmap, grid: bool = True) -> go.Figure:
    """Return a figure with the layout of planes and maps.

    Arguments:
        traces: First traces of the figure.
        grid: If True, draw the grid.
    """
    figure = go.Figure(list(traces))
    figure.update_layout(template=TEMPLATE, hovermode="closest", margin={"t": 24, "r": 16})
    figure.update_xaxes(showgrid=grid)
    figure.update_yaxes(showgrid=grid)
    return figure


def reference(figure: go.Figure, name: str, x: Sequence[float], y: Sequence[float]) -> None:
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
    at: Float[Tensor, "n 2"],
    *,
    symbol: str,
    size: int,
    opacity: float = 1.0,
) -> None:
    figure.add_trace(
        go.Scatter(
            x=at[:, 0].tolist(),
            y=at[:, 1].tolist(),
            mode="markers",
            name=name,
            marker={"symbol": symbol, "size": size, "color": colour(index), "opacity": opacity},
            hovertemplate=_HOVER,
            meta={"series": index, "role": "points"},
        )
    )
