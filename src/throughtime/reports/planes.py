"""Planes of states: which attractor each point belongs to, and how a map is iterated."""

import html
import itertools
from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go
from torch import Tensor

from throughtime.reports.instrument_drawings import spread
from throughtime.reports.lines import COLOURS, TEMPLATE, colour, line

_SYMBOLS = ("circle", "x", "diamond", "square", "cross", "triangle-up")


def regions(
    index: Tensor,
    *,
    across: tuple[float, float],
    up: tuple[float, float],
    names: Sequence[str],
    marked: Mapping[str, Tensor] | None = None,
) -> go.Figure:
    """A plane whose points belong to regions, as the basins of attractors.

    Arguments:
        index: (rows, columns), which region each point is in, from 0; below 0 for none.
        across: what the first and the last column are, on the axis.
        up: what the first and the last row are.
        names: of the regions.
        marked: groups of points by name, each (n, 2), across and up: the attractors.
    """
    known = np.asarray(index.double(), dtype=np.float32)
    known = np.where(known >= 0, known, np.nan)
    labels = [html.escape(name, quote=False) for name in names]
    count = max(len(names), 1)
    steps = [(k / count, (k + 1) / count, COLOURS[k % len(COLOURS)]) for k in range(count)]
    figure = go.Figure(
        go.Heatmap(
            z=known,
            x=spread(*across, index.shape[1]),
            y=spread(*up, index.shape[0]),
            zmin=-0.5,
            zmax=count - 0.5,
            colorscale=[[edge, paint] for low, high, paint in steps for edge in (low, high)],
            opacity=0.6,
            showscale=False,
            text=[[labels[int(k)] if k >= 0 else "none" for k in row] for row in index.tolist()],
            hovertemplate="%{x:.3g}, %{y:.3g}: %{text}<extra></extra>",
            meta={"series": 0, "role": "regions", "regions": count},
        )
    )
    for k, (name, points) in enumerate((marked or {}).items()):
        figure.add_trace(
            go.Scatter(
                x=points[:, 0].tolist(),
                y=points[:, 1].tolist(),
                mode="markers",
                name=html.escape(name, quote=False),
                marker={"symbol": _SYMBOLS[k % len(_SYMBOLS)], "size": 10, "color": "black"},
                hovertemplate="%{x:.3g}, %{y:.3g}: %{fullData.name}<extra></extra>",
                meta={"series": -1, "role": "mark"},
            )
        )
    figure.update_layout(template=TEMPLATE, hovermode="closest", margin={"t": 24, "r": 16})
    figure.update_xaxes(showgrid=False)
    figure.update_yaxes(showgrid=False)
    return figure


def cobweb(x: Tensor, image: Tensor, path: Sequence[float]) -> go.Figure:
    """A map of one number, the line where it stands still, and an iteration as steps between them.

    Arguments:
        x: (n,), increasing.
        image: (n,), F(x).
        path: x_0, x_1 = F(x_0), ...
    """
    figure = go.Figure()
    ends = [float(x[0]), float(x[-1])]
    figure.add_trace(
        go.Scatter(
            x=ends,
            y=ends,
            mode="lines",
            name="x",
            line={"width": 1, "dash": "dot", "color": colour(6)},
            hoverinfo="skip",
            meta={"series": 6, "role": "reference"},
        )
    )
    line(figure, 0, "F(x)", x.tolist(), image.tolist())
    steps = [(a, a) for a in path[:1]]
    for a, b in itertools.pairwise(path):
        steps += [(a, b), (b, b)]
    line(figure, 1, "iteration", [a for a, _ in steps], [b for _, b in steps])
    figure.update_traces(line={"dash": "solid", "width": 1.5}, selector={"name": "iteration"})
    figure.update_layout(template=TEMPLATE, hovermode="closest", margin={"t": 24, "r": 16})
    figure.update_xaxes(title_text="x, before a step")
    figure.update_yaxes(title_text="F(x), after it")
    return figure
