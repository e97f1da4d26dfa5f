"""Maps of one number, drawn from results of instruments: fixed points, cycles, bifurcations."""

from collections.abc import Sequence

import plotly.graph_objects as go
import torch
from jaxtyping import Float
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


def phase_line(
    phases: PhaseLine,
    f: ScalarMap | None = None,
    stairs: Float[Tensor, "points 2"] | None = None,
) -> Drawing:
    """Draw the fixed points of a map and the direction in which states move.

    Arguments:
        phases: Phase line of the map; the picture has the same ends.
        f: The map, to be drawn too; or None.
        stairs: An iteration of the map, as `throughtime.instruments.cobweb` returns it; or None.
    """
    ends = [float(phases.edges[0]), float(phases.edges[-1])]
    fixed = phases.fixed
    if f is None:
        figure = plane()
        reference(figure, "x", ends, [0.0, 0.0])
        labels = _by_kind(figure, fixed.kinds, fixed.points, torch.zeros_like(fixed.points))
        _arrows(figure, phases, 0.0)
        figure.update_xaxes(title_text="x", range=ends)
        figure.update_yaxes(range=[-1, 1], showticklabels=False, showgrid=False)
        caption = f"{_FILLED} Arrows: the direction in which states move."
        return Drawing(_fixed_title(fixed), caption, "", labels, figure)
    x = torch.linspace(ends[0], ends[1], 401, dtype=torch.float64)
    figure = plane()
    reference(figure, "x", ends, ends)
    line(figure, 0, "F(x)", x.tolist(), f(x).tolist())
    if stairs is not None:
        line(figure, 1, "iteration", stairs[:, 0].tolist(), stairs[:, 1].tolist())
        figure.update_traces(line={"dash": "solid", "width": 1.5}, selector={"name": "iteration"})
    figure.update_xaxes(title_text="x, before a step")
    figure.update_yaxes(title_text="F(x), after it")
    labels = _by_kind(figure, fixed.kinds, fixed.points, fixed.points)
    _arrows(figure, phases, ends[0])
    return Drawing(
        title=_fixed_title(fixed),
        caption="The map and the line F(x) = x cross at fixed points. A fixed point attracts where "
        "the map is less steep than the line. Arrows below: the direction in which states move.",
        y_label="F(x), after a step",
        labels=("F(x)", *(() if stairs is None else ("iteration",)), *labels),
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
