"""The report of a comparison: one HTML file that opens anywhere, without a network."""

from pathlib import Path
from typing import Any

from throughtime.reports import figures, numbers
from throughtime.reports.finding import finding, starred
from throughtime.reports.lines import DASHES
from throughtime.reports.page import figure_data, plotly_bundle, templates
from throughtime.reports.table import csv_link, model_rows, run_rows
from throughtime.results.atomic import write_whole
from throughtime.results.comparison import Comparison, Run


def write_report(comparison: Comparison) -> Path:
    """Write the report into the comparison's folder, whole or not at all.

    Returns:
        The path: `comparison.report`.

    Raises:
        RunWriteError: the folder cannot be written, or the disk is full.
    """
    write_whole(comparison.report, render_report(comparison).encode("utf-8", "backslashreplace"))
    return comparison.report


def render_report(comparison: Comparison) -> str:
    """Return the report as the text of one HTML page that needs no network."""
    comparison, only = comparison.in_short, comparison.only_model
    asked = [model.name or model.label for model in comparison.models]
    short = [name if only else name.split(", ")[0] for name in asked]
    names = numbers.listed([*dict.fromkeys(short)])
    stars, star_told = starred(comparison)
    shown = {
        comparison.task.headline.name: figures.headline_figure(comparison),
        "loss": figures.loss_figure(comparison),
        "gradient_start": figures.gradient_figure(comparison, "start"),
        "gradient": figures.gradient_figure(comparison, "trained"),
    }
    return (
        templates()
        .get_template("comparison.html")
        .render(
            comparison=comparison,
            task=comparison.task,
            models=comparison.models,
            finding=finding(comparison),
            title=f"{comparison.task.spec}: {f'{only}, ' if only else ''}{names}",
            stars=stars,
            star_told=star_told,
            headline=comparison.task.headline,
            csv_name=comparison.folder.name,
            csv_models=csv_link(model_rows(comparison)),
            csv_runs=csv_link(run_rows(comparison)),
            numbers=numbers,
            dashes=DASHES,
            reach_level=f"{100 * figures.REACH:g} %",
            figures={name: figure_data(figure) for name, figure in shown.items()},
            smoothed=figures.smoothed(shown[comparison.task.headline.name])
            or figures.smoothed(shown["loss"]),
            smoothed_by_lag=figures.smoothed(shown["gradient_start"])
            or figures.smoothed(shown["gradient"]),
            shared=_shared([{**run.config, **_environment(run)} for run in comparison.runs]),
            environment_of=_environment,
            plotly=plotly_bundle(),
        )
    )


def _environment(run: Run) -> dict[str, Any]:
    values = dict(run.environment)
    if isinstance(values.get("engines"), list):
        values["engines"] = ", ".join(values["engines"])
    return values


def _shared(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the entries that are equal in all rows."""
    first, *others = rows
    return {
        key: value
        for key, value in first.items()
        if all(key in row and row[key] == value for row in others)
    }
