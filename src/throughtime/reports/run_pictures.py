"""Pictures of runs: the curves of one run, and the rows of a study beside the paper's."""

import plotly.graph_objects as go
import torch
from torch import Tensor

from throughtime.core.errors import ConfigurationError
from throughtime.reports.curves import norms_by_lag
from throughtime.reports.drawing import Drawing
from throughtime.reports.lines import (
    TEMPLATE,
    colour,
    points,
    steps,
    translucent,
    wrapped,
)
from throughtime.results.comparison import Run, When
from throughtime.results.diagnosis import Picture
from throughtime.results.reproduction import Reproduction

_GREY = "#5b5f66"


def validation_loss(run: Run) -> Picture:
    """Show the validation loss by training step."""
    return _curve(run, run.curve.loss, "validation loss")


def validation_headline(run: Run) -> Picture:
    """Show the headline metric of the task on the validation split by training step."""
    return _curve(run, run.curve.headline, "headline metric on the validation split")


def gradient_of_run(run: Run, needed: int | None = None) -> Picture:
    """Show ||dL/dh|| by lag, before the first update and after the last.

    Arguments:
        run: A run whose gradient was measured.
        needed: Steps between an answer and the inputs that it depends on; None if not known.

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

    Arguments:
        found: The result of a study.

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
