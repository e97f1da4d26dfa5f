"""Maps of one number, drawn from results of instruments: fixed points, cycles, bifurcations."""

import itertools
from collections.abc import Sequence

import plotly.graph_objects as go
import torch
from torch import Tensor

from throughtime.instruments.one_unit import LatchSurvival
from throughtime.instruments.scalar_maps import (
    Bifurcation,
    Cycles,
    PhaseLine,
    ScalarFixedPoints,
    ScalarMap,
)
from throughtime.reports.drawing import Drawing
from throughtime.reports.lines import colour, line, points, steps, thinned
from throughtime.reports.numbers import count, number
from throughtime.reports.planes import plane, reference
from throughtime.results.diagnosis import Picture

_SYMBOLS = {"sink": "circle", "source": "circle-open", "marginal": "diamond-open"}
_FILLED = "Filled: attracting. Open: repelling, or on the border."


def cobweb(x: Tensor, image: Tensor, path: Sequence[float]) -> go.Figure:
    """Return a map of one number, the line F(x) = x, and an iteration as stairs between them.

    Arguments:
        x: Increasing numbers, (n,).
        image: F(x), (n,).
        path: The iteration: x_0, x_1 = F(x_0), ...
    """
    figure = plane()
    ends = [float(x[0]), float(x[-1])]
    reference(figure, "x", ends, ends)
    line(figure, 0, "F(x)", x.tolist(), image.tolist())
    stairs = [(a, a) for a in path[:1]]
    for a, b in itertools.pairwise(path):
        stairs += [(a, b), (b, b)]
    line(figure, 1, "iteration", [a for a, _ in stairs], [b for _, b in stairs])
    figure.update_traces(line={"dash": "solid", "width": 1.5}, selector={"name": "iteration"})
    figure.update_xaxes(title_text="x, before a step")
    figure.update_yaxes(title_text="F(x), after it")
    return figure


def scalar_map(
    f: ScalarMap, phases: PhaseLine, start: float | None = None, iterations: int = 30
) -> Drawing:
    """Draw a map of one number with its fixed points, its phase line, and an iteration.

    Arguments:
        f: The map.
        phases: Phase line of the map; the picture has the same ends.
        start: First number of the iteration; None for no iteration.
        iterations: Number of steps of the iteration.
    """
    low, high = float(phases.edges[0]), float(phases.edges[-1])
    x = torch.linspace(low, high, 401, dtype=torch.float64)
    path: list[float] = []
    if start is not None:
        path = [start]
        for _ in range(iterations):
            path.append(float(f(torch.tensor([path[-1]], dtype=torch.float64))))
    figure = cobweb(x, f(x), path)
    at = phases.fixed.points
    labels = _by_kind(figure, phases.fixed.kinds, at, at)
    _arrows(figure, phases, low)
    return Drawing(
        title=_fixed_title(phases.fixed),
        caption="The map and the line F(x) = x cross at fixed points. A fixed point attracts where "
        "the map is less steep than the line. Arrows below: the direction in which states move.",
        y_label="F(x), after a step",
        labels=("F(x)", *(["iteration"] if path else []), *labels),
        figure=figure,
    )


def phase_line(phases: PhaseLine) -> Drawing:
    """Draw the fixed points of a map on a line, with the direction in which states move."""
    figure = plane()
    at = phases.fixed.points
    ends = [float(phases.edges[0]), float(phases.edges[-1])]
    reference(figure, "x", ends, [0.0, 0.0])
    labels = _by_kind(figure, phases.fixed.kinds, at, torch.zeros_like(at))
    _arrows(figure, phases, 0.0)
    figure.update_xaxes(title_text="x", range=ends)
    figure.update_yaxes(range=[-1, 1], showticklabels=False, showgrid=False)
    return Drawing(
        title=_fixed_title(phases.fixed),
        caption=f"{_FILLED} Arrows: the direction in which states move.",
        y_label="",
        labels=labels,
        figure=figure,
    )


def scalar_fixed_points(found: ScalarFixedPoints) -> Drawing:
    """Draw the fixed points of a map and the slope of the map at each."""
    figure = plane()
    labels = _by_kind(figure, found.kinds, found.points, found.slopes)
    for level in (-1.0, 1.0):
        figure.add_hline(y=level, line={"width": 1, "dash": "dot"})
    figure.update_xaxes(title_text="fixed point")
    figure.update_yaxes(title_text="slope of the map")
    return Drawing(
        title=_fixed_title(found),
        caption=f"{_FILLED} A fixed point attracts where the slope is between -1 and 1.",
        y_label="slope of the map",
        labels=labels,
        figure=figure,
    )


def cycles(found: Cycles) -> Drawing:
    """Draw the points of each cycle of a map, by the multiplier of the cycle."""
    figure = plane()
    n, period = found.points.shape
    rows = [kind for kind in found.kinds for _ in range(period)]
    number_of = torch.arange(1, n + 1).repeat_interleave(period)
    labels = _by_kind(figure, rows, number_of, found.points.reshape(-1))
    figure.update_xaxes(title_text="cycle")
    figure.update_yaxes(title_text="points of the cycle")
    sinks = sum(kind == "sink" for kind in found.kinds)
    return Drawing(
        title=f"{count(n)} cycles of {steps(period)}, {count(sinks)} of them attracting.",
        caption=f"{_FILLED} The multiplier is the slope of a whole round; the cycles have "
        f"{', '.join(number(float(m)) for m in found.multipliers[:8]) or 'none'}.",
        y_label="points of the cycle",
        labels=labels,
        figure=figure,
    )


def bifurcation_diagram(found: Bifurcation, parameter: str = "parameter") -> Drawing:
    """Draw the fixed points of a family of maps by the parameter of the family.

    Arguments:
        found: The fixed points.
        parameter: Name of the parameter, for the axis.
    """
    figure = plane()
    labels = _by_kind(figure, found.kinds, found.parameter, found.points, size=5)
    figure.update_xaxes(title_text=parameter)
    figure.update_yaxes(title_text="fixed points")
    most = int(found.parameter.unique(return_counts=True)[1].max()) if len(found.kinds) else 0
    return Drawing(
        title=f"Up to {count(most)} fixed points, by {parameter}.",
        caption=f"{_FILLED} Where two meet and vanish, a small change of the parameter changes "
        "the end of trajectories.",
        y_label="fixed points",
        labels=labels,
        figure=figure,
    )


def latch_over_time(survival: LatchSurvival) -> Picture:
    """Show the share of runs of one noisy unit that still hold their bit, by steps."""
    chosen = [*thinned(len(survival.kept))]
    after, kept, held = torch.tensor(chosen) + 1, survival.kept[chosen], survival.held[chosen]
    return Picture(
        title=f"After {steps(len(survival.kept))}, {100 * float(survival.kept[-1]):.3g} % of "
        "the runs have the sign that they began with.",
        caption=f"One unit of weight {number(survival.weight)} with {survival.noise} noise of size "
        f"{number(survival.size)}; {count(survival.runs)} runs. Held: the sign never changed.",
        x_label="steps",
        y_label="share of the runs",
        series=(points("same sign", after, kept), points("held all along", after, held)),
        level=(0.5, "chance"),
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
        figure.add_trace(
            go.Scatter(
                x=x[rows].tolist(),
                y=y[rows].tolist(),
                mode="markers",
                name=kind,
                marker={"symbol": _SYMBOLS[kind], "size": size, "color": colour(2)},
                hovertemplate="%{x:.3g}, %{y:.3g}: %{fullData.name}<extra></extra>",
                meta={"series": 2, "role": "points"},
            )
        )
    return names
