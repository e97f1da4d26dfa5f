"""The figures of a comparison as plotly figures, without colours: the page gives them its theme.

Each trace carries `meta = {"series": i, "role": ...}`; the page colours series i, draws a role
"band" translucent, and can switch a series off in every figure.
"""

import math
from collections.abc import Callable, Sequence

import plotly.graph_objects as go

from throughtime.reports.comparison import Comparison, ModelRuns, Run, When
from throughtime.reports.lines import DASHES, band, guide, ladder, line, short
from throughtime.reports.numbers import count

REACH = 0.01
_SMALLEST = 1e-12


def accuracy_figure(comparison: Comparison) -> go.Figure:
    """Validation accuracy by training step: mean over seeds, band from lowest to highest."""
    figure = _curves(comparison, lambda run: run.curve.accuracy, _mean)
    figure.update_yaxes(range=[0, 1.02], tickformat=".0%")
    guide(figure, "chance", y=comparison.task.chance)
    return figure


def loss_figure(comparison: Comparison) -> go.Figure:
    """Validation loss by training step, log axis: geometric mean, band from lowest to highest."""
    figure = _curves(comparison, lambda run: run.curve.loss, _geometric_mean)
    values, texts = ladder([v for run in comparison.runs for v in run.curve.loss if v > 0])
    figure.update_yaxes(type="log", tickvals=values, ticktext=texts)
    if comparison.task.chance_loss > 0:
        guide(figure, "chance", y=comparison.task.chance_loss, logarithmic=True)
    return figure


def gradient_figure(comparison: Comparison, when: When) -> go.Figure:
    """The norm of dL/dh by lag, relative to each run's largest, on a log axis.

    Geometric mean over seeds, band from the lowest to the highest; the task's dependency length and
    the level of 1 % by which the reach is told are marked. The axis is the same before and after
    training; what is below 1e-12 is not drawn.

    Arguments:
        comparison: whose runs.
        when: "start", before the first update, or "trained".
    """
    figure = go.Figure()
    longest = 0
    for index, model in enumerate(comparison.models):
        flows = [_relative(run.gradient[when].norm_by_lag) for run in model.runs if run.gradient]
        if not flows:
            continue
        lags = range(min(map(len, flows)))
        columns = [[flow[lag] for flow in flows if flow[lag] > 0] for lag in lags]
        _series(figure, index, model, list(lags), columns, _geometric_mean)
        longest = max(longest, len(lags))
    floor = math.floor(math.log10(max(_smallest(comparison), _SMALLEST)))
    figure.update_yaxes(
        type="log", range=[floor - 0.15, 0.4], exponentformat="power", dtick=max(1, -floor // 5)
    )
    figure.update_xaxes(title_text="lag: steps before the last one", rangemode="tozero")
    guide(figure, f"{100 * REACH:g} %", y=REACH, logarithmic=True)
    due = comparison.task.dependency_length
    text = f"dependency length, {count(due)}"
    guide(figure, text, x=due, anchor="right" if 2 * due > longest else "left")
    return figure


def _curves(
    comparison: Comparison,
    values: Callable[[Run], Sequence[float]],
    average: Callable[[Sequence[float]], float],
) -> go.Figure:
    figure = go.Figure()
    for index, model in enumerate(comparison.models):
        by_run = [dict(zip(run.curve.steps, values(run), strict=True)) for run in model.finished]
        steps = sorted({step for run in by_run for step in run})
        columns = [[value for run in by_run for value in _at(run, step)] for step in steps]
        _series(figure, index, model, steps, columns, average)
        for run in model.runs:
            if run.status == "diverged":
                _cross(figure, index, model, run, values(run))
    figure.update_xaxes(title_text="training step", rangemode="tozero")
    return figure


def _at(run: dict[int, float], step: int) -> list[float]:
    """The value at a step, if there is one; a run that ended before keeps its last value."""
    reached = [known for known in run if known <= step]
    return [run[max(reached)]] if reached else []


def _series(
    figure: go.Figure,
    index: int,
    model: ModelRuns,
    x: list[int],
    columns: list[list[float]],
    average: Callable[[Sequence[float]], float],
) -> None:
    """Add a band from the lowest to the highest value and a line of averages."""
    kept = [(at, column) for at, column in zip(x, columns, strict=True) if column]
    at = [k for k, _ in kept]
    if any(len(column) > 1 for _, column in kept):
        lows, highs = ([short(edge(c)) for _, c in kept] for edge in (min, max))
        band(figure, index, at, lows, highs)
    line(figure, index, model.label, at, [short(average(c)) for _, c in kept])


def _cross(
    figure: go.Figure, index: int, model: ModelRuns, run: Run, values: Sequence[float]
) -> None:
    """The curve of a run that diverged, with a cross at its last evaluation."""
    if values:
        figure.add_trace(
            go.Scatter(
                x=list(run.curve.steps),
                y=[short(value) for value in values],
                mode="lines+markers",
                name=f"{model.label}, seed {run.seed}, diverged",
                line={"width": 1, "dash": DASHES[index % len(DASHES)]},
                marker={"symbol": "x", "size": [0] * (len(values) - 1) + [10]},
                meta={"series": index, "role": "diverged"},
            )
        )


def _smallest(comparison: Comparison) -> float:
    """The smallest relative norm of any gradient, before training or after; at most 1 %."""
    flows = [flow for run in comparison.runs if run.gradient for flow in run.gradient.values()]
    norms = (norm for flow in flows for norm in _relative(flow.norm_by_lag) if norm > 0)
    return min(REACH, min(norms, default=REACH))


def _relative(norms: Sequence[float]) -> list[float]:
    largest = max(norms, default=0.0)
    return [norm / largest if largest > 0 else 0.0 for norm in norms]


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _geometric_mean(values: Sequence[float]) -> float:
    if any(value <= 0 for value in values):
        return 0.0
    return math.exp(_mean([math.log(value) for value in values]))
