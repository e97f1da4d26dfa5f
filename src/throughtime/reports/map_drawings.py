"""Maps of one number and planes of states, drawn from what instruments found."""

from collections.abc import Sequence

import plotly.graph_objects as go
import torch

from throughtime.instruments.basins import Basins
from throughtime.instruments.fixed_points import FixedPoints
from throughtime.instruments.one_unit import LatchSurvival
from throughtime.instruments.scalar_maps import Bifurcation, PhaseLine, ScalarMap
from throughtime.reports.curves import points, steps, thinned
from throughtime.reports.diagnosis_words import number
from throughtime.reports.drawing import Drawing
from throughtime.reports.lines import TEMPLATE, colour
from throughtime.reports.numbers import count
from throughtime.reports.planes import cobweb, regions
from throughtime.results.diagnosis import Picture

_SYMBOLS = {"sink": "circle", "source": "circle-open", "marginal": "diamond-open"}


def basins_of_attraction(basins: Basins, fixed: FixedPoints) -> Drawing:
    """Where trajectories end that start on a plane, and the attractors seen on it.

    Arguments:
        basins: of a cell.
        fixed: its fixed points, the same that the basins were found with.
    """
    ends = [k for k in basins.attractor.unique().tolist() if k >= 0]
    index = torch.full_like(basins.attractor, -1)
    for place, k in enumerate(ends):
        index[basins.attractor == k] = place
    names = [f"attractor {k + 1}" for k in ends]
    at = basins.plane.coordinates(fixed.states[ends])
    figure = regions(
        index,
        across=(float(basins.across[0]), float(basins.across[-1])),
        up=(float(basins.up[0]), float(basins.up[-1])),
        names=names,
        marked={name: at[[place]] for place, name in enumerate(names)},
    )
    figure.update_xaxes(title_text="first direction of the plane")
    figure.update_yaxes(title_text="second direction of the plane")
    starts = basins.attractor.numel()
    return Drawing(
        title=f"Starts on this plane end in {count(len(ends))} attractors; "
        f"{100 * basins.unsettled / max(starts, 1):.3g} % in none of them.",
        caption="Each point is a start, coloured by the attractor that its trajectory ends in; "
        "blank where it ends in none. What crosses a border is remembered as something else. "
        + (f"{count(basins.cycling)} starts end on a cycle." if basins.cycling else ""),
        y_label="second direction of the plane",
        labels=tuple(names),
        figure=figure,
    )


def scalar_map(
    f: ScalarMap, line: PhaseLine, start: float | None = None, iterations: int = 30
) -> Drawing:
    """A map of one number with its fixed points, the way that states move, and an iteration.

    Arguments:
        f: the map.
        line: its phase line, whose ends are those of the picture.
        start: of the iteration; None for none.
        iterations: steps of it.
    """
    low, high = float(line.edges[0]), float(line.edges[-1])
    x = torch.linspace(low, high, 401, dtype=torch.float64)
    path: list[float] = []
    if start is not None:
        path = [start]
        for _ in range(iterations):
            path.append(float(f(torch.tensor([path[-1]], dtype=torch.float64))))
    figure = cobweb(x, f(x), path)
    fixed = line.fixed
    labels: list[str] = []
    for kind in sorted(set(fixed.kinds)):
        at = fixed.points[[k for k, own in enumerate(fixed.kinds) if own == kind]].tolist()
        _points(figure, kind, at, at)
        labels.append(kind)
    # the phase line itself, along the bottom: an arrow for each stretch between fixed points
    for a, b, way in zip(line.edges[:-1], line.edges[1:], line.directions.tolist(), strict=True):
        if way:
            tip, tail = (0.7, 0.3) if way > 0 else (0.3, 0.7)
            figure.add_annotation(
                x=float(a + tip * (b - a)),
                ax=float(a + tail * (b - a)),
                y=low,
                ay=low,
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
    sinks = sum(kind == "sink" for kind in fixed.kinds)
    return Drawing(
        title=f"{count(len(fixed.kinds))} fixed points, {count(sinks)} of them attracting.",
        caption="The map, and the line where it stands still: they cross at fixed points, which "
        "attract where the map is less steep than the line. Arrows below: the way states move.",
        y_label="F(x), after a step",
        labels=("F(x)", *(["iteration"] if path else []), *labels),
        figure=figure,
    )


def bifurcation_diagram(found: Bifurcation, parameter: str) -> Drawing:
    """Fixed points of a family of maps of one number by the parameter of the family.

    Arguments:
        found: the fixed points.
        parameter: its name, for the axis.
    """
    figure = go.Figure()
    figure.update_layout(template=TEMPLATE, hovermode="closest", margin={"t": 24, "r": 16})
    labels = sorted(set(found.kinds))
    for kind in labels:
        rows = [k for k, own in enumerate(found.kinds) if own == kind]
        _points(figure, kind, found.parameter[rows].tolist(), found.points[rows].tolist(), size=5)
    figure.update_xaxes(title_text=parameter)
    figure.update_yaxes(title_text="fixed points")
    most = int(found.parameter.unique(return_counts=True)[1].max()) if len(found.kinds) else 0
    return Drawing(
        title=f"Up to {count(most)} fixed points, by {parameter}.",
        caption="Filled: attracting. Open: repelling, or on the border. Where two meet and vanish, "
        "a small change of the parameter changes where states end.",
        y_label="fixed points",
        labels=tuple(labels),
        figure=figure,
    )


def latch_over_time(survival: LatchSurvival) -> Picture:
    """How many runs of one noisy unit still hold their bit, by steps."""
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


def _points(
    figure: go.Figure, kind: str, x: Sequence[float], y: Sequence[float], size: int = 10
) -> None:
    figure.add_trace(
        go.Scatter(
            x=list(x),
            y=list(y),
            mode="markers",
            name=kind,
            marker={"symbol": _SYMBOLS[kind], "size": size, "color": colour(2)},
            hovertemplate="%{x:.3g}, %{y:.3g}: %{fullData.name}<extra></extra>",
            meta={"series": 2, "role": "points"},
        )
    )
