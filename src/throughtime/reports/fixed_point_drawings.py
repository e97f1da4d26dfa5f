"""Fixed points as figures: where they are, and how states near them move."""

import math

import plotly.graph_objects as go
import torch
from jaxtyping import Float
from torch import Tensor

from throughtime.instruments.fixed_points import FixedPoints
from throughtime.reports.curves import thinned
from throughtime.reports.drawing import Drawing
from throughtime.reports.lines import TEMPLATE, colour
from throughtime.reports.numbers import count

_SYMBOLS = ("circle", "x", "diamond", "cross", "square", "triangle-up")
MOST = 6
"""Points whose eigenvalues are drawn: there are no more that can be told apart."""


def fixed_point_map(
    points: FixedPoints, visited: Float[Tensor, "visits size"] | None = None
) -> Drawing:
    """Fixed and slow points in the plane in which states differ most, by their stability.

    Arguments:
        points: of a cell.
        visited: states that the cell was in, as `visited_states` gives them, for a background.
    """
    finite = torch.cat([points.states, *([] if visited is None else [visited])])
    origin = finite.mean(0) if len(finite) else torch.zeros(points.states.shape[1]).double()
    plane, share = _principal(finite - origin)
    labels: list[str] = []
    figure = _figure()
    if visited is not None:
        shown = (visited[[*thinned(len(visited))]] - origin) @ plane
        _scatter(figure, 6, "visited states", shown, symbol="circle", size=3, opacity=0.35)
    kinds = [k if f else f"slow, {k}" for k, f in zip(points.kinds, points.fixed, strict=True)]
    for index, kind in enumerate(sorted(set(kinds))):
        rows = [k for k, own in enumerate(kinds) if own == kind]
        at = (points.states[rows] - origin) @ plane
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
    """The eigenvalues of the Jacobian at the first fixed points, and the unit circle."""
    figure = _figure()
    turn = [2 * math.pi * k / 180 for k in range(181)]
    figure.add_trace(
        go.Scatter(
            x=[math.cos(a) for a in turn],
            y=[math.sin(a) for a in turn],
            mode="lines",
            name="unit circle",
            line={"width": 1, "dash": "dot", "color": colour(6)},
            hoverinfo="skip",
            meta={"series": 6, "role": "reference"},
        )
    )
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
    """The two directions in which states differ most, and their share of the variance."""
    size = centred.shape[1]
    if size < 2 or len(centred) == 0:
        return torch.eye(size, 2, dtype=centred.dtype), 1.0
    directions, values, _ = torch.linalg.svd(centred.T @ centred)
    values = values.sqrt()
    total = float(values.square().sum())
    return directions[:, :2], float(values[:2].square().sum()) / total if total > 0 else 1.0


def _figure() -> go.Figure:
    figure = go.Figure()
    figure.update_layout(template=TEMPLATE, hovermode="closest", margin={"t": 24, "r": 16})
    return figure


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
            hovertemplate="%{x:.3g}, %{y:.3g}: %{fullData.name}<extra></extra>",
            meta={"series": index, "role": "points"},
        )
    )
