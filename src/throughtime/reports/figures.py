"""The figures of trained runs: of a comparison, of one run, and of a study beside its paper.

Those of a comparison have no colours: the page gives them its theme. Each trace carries
`meta = {"series": i, "role": ...}`; the page colours series i, draws a role "band" translucent, and
can switch a series off in every figure. A rough curve is drawn twice: faint and thin as it is (role
"raw"), and thick as its moving average.
"""

import itertools
import math
from collections.abc import Callable, Sequence

import plotly.graph_objects as go
import torch
from torch import Tensor

from throughtime.core.errors import ConfigurationError
from throughtime.reports.curves import FRACTION, norms_by_lag
from throughtime.reports.drawing import Drawing
from throughtime.reports.lines import (
    DASHES,
    TEMPLATE,
    band,
    colour,
    guide,
    ladder,
    line,
    points,
    short,
    steps,
    translucent,
    wrapped,
)
from throughtime.reports.numbers import count
from throughtime.results.comparison import Comparison, ModelRuns, Run, When
from throughtime.results.diagnosis import Picture
from throughtime.results.reproduction import Reproduction

_SMALLEST = 1e-12
_ROUGH = 3.0
"""The length of a curve's way up and down, over its range, from which it is rough; of a monotone
curve it is 1."""


def headline_figure(comparison: Comparison) -> go.Figure:
    """Return the headline metric on the validation split by training step.

    Mean over seeds, band from lowest to highest. The axis fits the curves, and chance where it is
    near them.
    """
    metric = comparison.task.headline
    figure = _curves(comparison, lambda run: run.curve.headline, _mean)
    low, high = _range([v for run in comparison.runs for v in run.curve.headline], default=(0, 1))
    pad = max(0.05 * (high - low), 0.005)
    chance = metric.chance
    if chance is not None and low - 0.5 * (high - low) <= chance <= high + 0.5 * (high - low):
        low, high = min(low, chance), max(high, chance)
        guide(figure, "chance", y=chance)
    if metric.unit == "fraction":
        edges = [max(low - pad, -0.02), min(high + pad, 1.02)]
        figure.update_yaxes(range=edges, tickformat=".0%" if high - low > 0.06 else ".1%")
    else:
        figure.update_yaxes(range=[low - pad, high + pad])
    return figure


def loss_figure(comparison: Comparison) -> go.Figure:
    """Return the validation loss by training step: geometric mean, band from lowest to highest.

    The axis is logarithmic where the losses differ by a factor of three or more.
    """
    figure = _curves(comparison, lambda run: run.curve.loss, _geometric_mean)
    losses = [v for run in comparison.runs for v in run.curve.loss if v > 0]
    low, high = _range(losses, default=(1, 10))
    chance = comparison.task.chance("loss")
    if chance is not None and low / 3 <= chance <= 3 * high:
        low, high = min(low, chance), max(high, chance)
    logarithmic = high / low >= 3
    if chance is not None and low <= chance <= high:
        guide(figure, "chance", y=chance, logarithmic=logarithmic)
    if logarithmic:
        values, texts = ladder([low, high])
        edges = [math.log10(low) - 0.05, math.log10(high) + 0.05]
        figure.update_yaxes(type="log", tickvals=values, ticktext=texts, range=edges)
    else:
        pad = 0.05 * (high - low) or 0.05 * high
        figure.update_yaxes(range=[low - pad, high + pad])
    return figure


def smoothed(figure: go.Figure) -> bool:
    """True where a curve of a figure is rough, and has its moving average beside it."""
    roles = (trace["meta"]["role"] for trace in figure.to_plotly_json()["data"])
    return "raw" in roles


def gradient_figure(comparison: Comparison, when: When) -> go.Figure:
    """The norm of dL/dh by lag, relative to each run's largest, on a log axis.

    Geometric mean over seeds, band from the lowest to the highest; the task's dependency length and
    the level of 1 % of the reach are marked. The axis fits the curves; what is below
    1e-12 is not drawn.
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
    floor = math.log10(max(_smallest(comparison, when), _SMALLEST))
    figure.update_yaxes(
        type="log",
        range=[floor - 0.15, 0.15],
        exponentformat="power",
        dtick=max(1, round(-floor / 5)),
    )
    figure.update_xaxes(title_text="lag: steps before the last one", rangemode="tozero")
    guide(figure, f"{100 * FRACTION:g} %", y=FRACTION, logarithmic=True)
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
    middle, lows, highs = ([edge(c) for _, c in kept] for edge in (average, min, max))
    rough = _is_rough(middle)
    if rough:
        raw = [short(value) for value in middle]
        line(figure, index, model.label, at, raw)
        figure.data[-1].update(
            opacity=0.4,
            line={"width": 1, "dash": "solid"},
            meta={"series": index, "role": "raw"},
        )
        middle, lows, highs = (_moving(values, average) for values in (middle, lows, highs))
    if any(len(column) > 1 for _, column in kept):
        band(figure, index, at, *([short(value) for value in edge] for edge in (lows, highs)))
    line(figure, index, model.label, at, [short(value) for value in middle])
    if rough:
        figure.data[-1].update(hoverinfo="skip")  # the thin curve has the measured values


def _is_rough(values: Sequence[float]) -> bool:
    """True for a curve that goes up and down: a sawtooth."""
    known = [value for value in values if math.isfinite(value)]
    if len(known) < 8:
        return False
    way = sum(abs(b - a) for a, b in itertools.pairwise(known))
    return way > _ROUGH * (max(known) - min(known))


def _moving(
    values: Sequence[float], average: Callable[[Sequence[float]], float]
) -> Sequence[float]:
    """The averages of each value and its neighbours, over a tenth of the curve."""
    reach = max(1, len(values) // 20)
    return [average(values[max(0, k - reach) : k + reach + 1]) for k in range(len(values))]


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


def _smallest(comparison: Comparison, when: When) -> float:
    """The smallest relative norm of any gradient; at most 1 %."""
    flows = [run.gradient[when] for run in comparison.runs if run.gradient]
    norms = (norm for flow in flows for norm in _relative(flow.norm_by_lag) if norm > 0)
    return min(FRACTION, min(norms, default=FRACTION))


def _relative(norms: Sequence[float]) -> list[float]:
    largest = max(norms, default=0.0)
    return [norm / largest if largest > 0 else 0.0 for norm in norms]


def _range(values: Sequence[float], default: tuple[float, float]) -> tuple[float, float]:
    known = [value for value in values if math.isfinite(value)]
    return (min(known), max(known)) if known else default


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _geometric_mean(values: Sequence[float]) -> float:
    if any(value <= 0 for value in values):
        return 0.0
    return math.exp(_mean([math.log(value) for value in values]))


_GREY = "#5b5f66"


def validation_loss(run: Run) -> Picture:
    """Show the validation loss by training step."""
    return _curve(run, run.curve.loss, "validation loss")


def validation_headline(run: Run) -> Picture:
    """Show the headline metric of the task on the validation split by training step."""
    return _curve(run, run.curve.headline, "headline metric on the validation split")


def gradient_of_run(run: Run, needed: int | None = None) -> Picture:
    """Show ||dL/dh|| by lag, before the first update and after the last.

    Raises:
        ConfigurationError: The gradient of the run was not measured.
    """
    if run.gradient is None:
        raise ConfigurationError(
            f"gradient of the run {run.folder}",
            got="none: it was not measured" + (", since the run diverged" if run.diverged else ""),
            expected="a run with gradient_flow.json",
            fix="throughtime compare measures the gradient of each run that does not diverge.",
        )
    names: dict[When, str] = {"start": "before training", "trained": "trained"}
    title = f"The gradient of {_name(run)} reaches {steps(run.gradient['trained'].reach)} back."
    norms = {label: _numbers(run.gradient[when].norm_by_lag) for when, label in names.items()}
    return norms_by_lag(title, norms, needed)


def reproduction_rows(found: Reproduction) -> Drawing:
    """Draw the paper's numbers beside ours, a row for each model; lines from lowest to highest.

    Raises:
        ConfigurationError: No row has a number: the paper has none, and every run diverged.
    """
    names = [wrapped(row.label, 30) for row in found.rows]
    rows = [*zip(names, found.rows, strict=True)]
    expected = [(name, row.expected) for name, row in rows if row.expected is not None]
    paper = [(name, row.paper) for name, row in rows if row.paper is not None]
    ours = [(name, row.ours) for name, row in rows if row.ours is not None]
    if not paper and not ours:
        raise ConfigurationError(
            f"numbers of {found.name}",
            got="none: the paper has none, and every run diverged",
            expected="a number in one row or more",
        )
    figure = go.Figure()
    for name, ends in expected:
        figure.add_scatter(
            x=[*ends],
            y=[name, name],
            mode="lines",
            line={"width": 14, "color": translucent(_GREY)},
            name="expected",
            showlegend=False,
            meta={"series": 2, "role": "band"},
        )
    figure.add_scatter(
        x=[value for _, value in paper],
        y=[name for name, _ in paper],
        mode="markers",
        name="paper",
        marker={"symbol": "diamond-open", "size": 12, "color": colour(0)},
        meta={"series": 0, "role": "line"},
    )
    figure.add_scatter(
        x=[spread.mean for _, spread in ours],
        y=[name for name, _ in ours],
        mode="markers",
        name="ours",
        marker={"symbol": "circle", "size": 9, "color": colour(1)},
        error_x={
            "type": "data",
            "symmetric": False,
            "array": [spread.high - spread.mean for _, spread in ours],
            "arrayminus": [spread.mean - spread.low for _, spread in ours],
        },
        meta={"series": 1, "role": "line"},
    )
    shares = found.quantity in ("accuracy", "solved")
    figure.update_xaxes(title_text=found.quantity, tickformat=".0%" if shares else None)
    figure.update_yaxes(
        type="category", categoryorder="array", categoryarray=names, autorange="reversed"
    )
    figure.update_layout(template=TEMPLATE, hovermode="closest")
    return Drawing(
        title=f"{found.title}: {found.verdict}",
        caption=f"{found.quantity} on the test set: the paper's number, and the mean of ours with "
        "a line from the lowest to the highest seed. Grey: the expected range.",
        labels=("paper", "ours"),
        figure=figure,
    )


def _curve(run: Run, values: tuple[float, ...], quantity: str) -> Picture:
    """Return a metric over training.

    Raises:
        ConfigurationError: The run ended before its first evaluation.
    """
    if not values:
        raise ConfigurationError(
            f"curve of the run {run.folder}",
            got="none: the run ended before its first evaluation",
            expected="one evaluation or more",
            fix="Evaluate more often: a smaller evaluate_every.",
        )
    return Picture(
        title=f"The {quantity} of {_name(run)} over {steps(run.step)}: {run.status}.",
        caption="Each point is one evaluation on the validation split.",
        x_label="training step",
        y_label=quantity,
        series=(points(_name(run), _numbers(run.curve.steps), _numbers(values)),),
    )


def _numbers(values: tuple[float, ...]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64, device="cpu")


def _name(run: Run) -> str:
    return f"{run.config.get('model', run.folder.name)}, seed {run.seed}"
