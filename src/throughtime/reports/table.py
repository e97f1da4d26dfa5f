"""The table of a comparison: for the terminal, at 80 columns, and as CSV."""

import csv
import io
import re
import urllib.parse
from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from throughtime.reports.numbers import (
    count,
    loss,
    mean_count,
    mean_duration,
    metric,
    metric_spread,
    plain,
    reach_change,
)
from throughtime.results.comparison import Comparison, ModelRuns, TaskFacts

_WIDTH, _LABEL_WIDTH = 80, 24


def comparison_table(comparison: Comparison) -> Group:
    """One line a model: the headline metric with spread, steps, time, parameters, gradient reach.

    Arguments:
        comparison: Comparison with the models and runs.

    Returns:
        A heading, the table and a note, for rich to print; 80 columns are enough.
    """
    comparison, only = comparison.in_short, comparison.only_model
    task = comparison.task
    seeds = comparison.seeds
    chance = metric(task.headline, task.headline.chance)
    runs = f"{seeds} seed{'' if seeds == '1' else 's'}, chance {chance}"
    heading = Text.assemble((task.spec, "bold"), f": {f'{only}, ' if only else ''}{runs}")
    note = Text(
        "mean ± standard deviation over seeds; steps, time a run: means; gradient reach: largest "
        "lag at which the gradient's norm is 1 % of its largest, before training and after it, of "
        f"the {count(task.dependency_length)} steps that the answer needs",
        style="dim",
    )
    if comparison.names_settings:
        note.append("; after a model's name: the settings that differ from its first line")
    if comparison.unfinished:
        verb = "run is" if comparison.unfinished == 1 else "runs are"
        note.append(f"\n{count(comparison.unfinished)} {verb} not finished, and not in this table")
    columns = [f"test {each.title}" for each in (task.headline, *task.others)]
    columns += ["steps", "time", "parameters", "gradient\nreach"]
    rows = [_cells(model, task) for model in comparison.models]
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("model", no_wrap=True)
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    texts = zip(columns, *([cell.plain for cell in row] for row in rows), strict=True)
    widths = [max(map(len, "\n".join(column).split("\n"))) for column in texts]
    left = _WIDTH - 3 - sum(width + 2 for width in widths)
    for model, row in zip(comparison.models, rows, strict=True):
        label = broken(model.label, min(_LABEL_WIDTH, left))
        table.add_row(Text(label, style="bold"), *row)
    return Group(heading, table, note)


def broken(label: str, width: int) -> str:
    """Return a label on several lines, broken after commas and colons.

    A part that is still too wide is broken after an equals sign, a hyphen or an underscore, never
    within a word.

    Arguments:
        label: Label of a configuration.
        width: Largest number of characters of a line.

    Example:
        >>> print(broken("skip-rnn:hidden=64,lag=21", 24))
        skip-rnn:hidden=64,
        lag=21
    """
    parts: list[str] = []
    for part in re.findall(r"[^,:]+[,:]* ?", label):
        narrow = len(part.rstrip()) <= width
        parts += [part] if narrow else re.findall(r"[^=_-]*[=_-]+|[^=_-]+", part)
    lines = [""]
    for part in parts:
        if len((lines[-1] + part).rstrip()) <= width or not lines[-1]:
            lines[-1] += part
        else:
            lines.append(part)
    return "\n".join(line.rstrip() for line in lines)


def _cells(model: ModelRuns, task: TaskFacts) -> list[Text]:
    headline = metric_spread(task.headline, model.test(task.headline.name))
    lost = len(model.runs) - len(model.finished)
    return [
        Text.assemble(headline, (f"\n{lost} of {len(model.runs)} diverged", "red"))
        if lost
        else Text(headline),
        *(Text(loss(model.test(each.name))) for each in task.others),
        Text(mean_count(run.step for run in model.runs)),
        Text(mean_duration(run.seconds for run in model.runs)),
        Text(count(model.runs[0].parameters)),
        Text(reach_change(model.reach("start"), model.reach("trained"))),
    ]


_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""Signs at the start of a text that make it a formula in spreadsheets."""


def model_rows(comparison: Comparison) -> list[dict[str, Any]]:
    """The table of a comparison, one row a model, with the settings that differ.

    Arguments:
        comparison: the models and their runs.
    """
    rows: list[dict[str, Any]] = []
    for model in comparison.models:
        headline = comparison.task.headline
        value, loss = model.test(headline.name), model.test("loss")
        start, trained = model.reach("start"), model.reach("trained")
        n = len(model.runs)
        rows.append(
            {
                "model": model.label,
                "spec": model.spec,
                f"test {headline.title}, mean": value and value.mean,
                f"test {headline.title}, standard deviation": value and value.deviation,
                "test loss, mean": loss and loss.mean,
                "test loss, standard deviation": loss and loss.deviation,
                "seeds": n,
                "diverged": n - len(model.finished),
                "solved on validation": sum(run.status == "solved" for run in model.runs),
                **{name: _setting(model.settings.get(name)) for name in comparison.differing},
                "steps done, mean": sum(run.step for run in model.runs) / n,
                "seconds, mean": sum(run.seconds for run in model.runs) / n,
                "parameters": model.runs[0].parameters,
                "gradient reach before training, mean": start and start.mean,
                "gradient reach after training, mean": trained and trained.mean,
            }
        )
    return rows


def run_rows(comparison: Comparison) -> list[dict[str, Any]]:
    """The runs of a comparison, one row a run, with the settings that differ.

    Arguments:
        comparison: the models and their runs.
    """
    headline = comparison.task.headline
    return [
        {
            "model": model.label,
            "spec": model.spec,
            "seed": run.seed,
            "status": run.status,
            f"test {headline.title}": run.test and run.test[headline.name],
            "test loss": run.test and run.test["loss"],
            **{name: _setting(model.settings.get(name)) for name in comparison.differing},
            "steps done": run.step,
            "seconds": run.seconds,
            "parameters": run.parameters,
            "gradient reach before training": run.gradient and run.gradient["start"].reach,
            "gradient reach after training": run.gradient and run.gradient["trained"].reach,
        }
        for model in comparison.models
        for run in model.runs
    ]


def csv_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as CSV after RFC 4180, with a heading; None is an empty cell.

    A text that would be a formula in a spreadsheet gets an apostrophe in front.

    Arguments:
        rows: Rows with the same keys.

    Example:
        >>> csv_text([{"model": "=1+1", "loss": -0.5}])
        "model,loss\\r\\n'=1+1,-0.5\\r\\n"
    """
    stream = io.StringIO()
    writer = csv.writer(stream)
    writer.writerow(map(_safe, rows[0]))
    writer.writerows([_safe(value) for value in row.values()] for row in rows)
    return stream.getvalue()


def csv_link(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as CSV in a `data:` address.

    Arguments:
        rows: Rows with the same keys.
    """
    return f"data:text/csv;charset=utf-8,{urllib.parse.quote(csv_text(rows), safe='')}"


def _setting(value: object) -> object:
    """Return a number unchanged, anything else as text."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return value if number else plain(value)


def _safe(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
