"""The report of a comparison: one HTML file that opens anywhere, without a network."""

from pathlib import Path
from typing import Any

from throughtime.reports import figures, numbers
from throughtime.reports.comparison import Comparison, Run
from throughtime.reports.finding import finding
from throughtime.reports.lines import DASHES
from throughtime.reports.page import figure_data, plotly_bundle, templates
from throughtime.training.atomic import write_whole


def write_report(comparison: Comparison) -> Path:
    """Write the report into the comparison's folder, whole or not at all.

    Returns:
        where it is: `comparison.report`.

    Raises:
        RunWriteError: the folder cannot be written, or the disk is full.
    """
    write_whole(comparison.report, render_report(comparison).encode("utf-8", "backslashreplace"))
    return comparison.report


def render_report(comparison: Comparison) -> str:
    """The report as the text of one HTML page, with everything that it needs inside."""
    comparison, only = comparison.in_short, comparison.only_model
    names = numbers.listed([model.label for model in comparison.models])
    return (
        templates()
        .get_template("comparison.html")
        .render(
            comparison=comparison,
            task=comparison.task,
            models=comparison.models,
            finding=finding(comparison),
            title=f"{comparison.task.spec}: {f'{only}, ' if only else ''}{names}",
            best=_best(comparison),
            numbers=numbers,
            dashes=DASHES,
            reach_level=f"{100 * figures.REACH:g} %",
            figures={
                "accuracy": figure_data(figures.accuracy_figure(comparison)),
                "loss": figure_data(figures.loss_figure(comparison)),
                "gradient_start": figure_data(figures.gradient_figure(comparison, "start")),
                "gradient": figure_data(figures.gradient_figure(comparison, "trained")),
            },
            shared=_shared([{**run.config, **_environment(run)} for run in comparison.runs]),
            environment_of=_environment,
            plotly=plotly_bundle(),
        )
    )


def _best(comparison: Comparison) -> str | None:
    """The label of the model with the highest mean test accuracy."""
    means = {m.label: score.mean for m in comparison.models if (score := m.test("accuracy"))}
    return max(means, key=lambda label: means[label]) if means else None


def _environment(run: Run) -> dict[str, Any]:
    values = dict(run.environment)
    if isinstance(values.get("engines"), list):
        values["engines"] = ", ".join(values["engines"])
    return values


def _shared(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """What is the same in every row."""
    first, *others = rows
    return {
        key: value
        for key, value in first.items()
        if all(key in row and row[key] == value for row in others)
    }
