"""The table of a comparison for the terminal: readable at 80 columns."""

import re

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from throughtime.reports.numbers import (
    count,
    loss,
    mean_count,
    mean_duration,
    percent,
    percent_spread,
    reach_change,
)
from throughtime.results.comparison import Comparison, ModelRuns

_WIDTH, _LABEL_WIDTH = 80, 24


def comparison_table(comparison: Comparison) -> Group:
    """One line a model: test accuracy with spread, steps, time, parameters, gradient reach.

    Arguments:
        comparison: whose models and runs.

    Returns:
        A heading, the table and a note, for rich to print; 80 columns are enough.
    """
    comparison, only = comparison.in_short, comparison.only_model
    task = comparison.task
    seeds = comparison.seeds
    runs = f"{seeds} seed{'' if seeds == '1' else 's'}, chance {percent(task.chance)}"
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
    with_loss = task.answer in ("value", "value_per_step")
    columns = ["test accuracy", *(["test loss"] if with_loss else [])]
    columns += ["steps", "time", "parameters", "gradient\nreach"]
    rows = [_cells(model, with_loss=with_loss) for model in comparison.models]
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
    """A label on as many lines as it needs, broken after commas and colons.

    A part that is still too wide is broken after an equals sign, a hyphen or an underscore, never
    within a word.

    Arguments:
        label: of a configuration.
        width: of a line, in characters.

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


def _cells(model: ModelRuns, *, with_loss: bool) -> list[Text]:
    accuracy = percent_spread(model.test("accuracy"))
    lost = len(model.runs) - len(model.finished)
    return [
        Text.assemble(accuracy, (f"\n{lost} of {len(model.runs)} diverged", "red"))
        if lost
        else Text(accuracy),
        *([Text(loss(model.test("loss")))] if with_loss else []),
        Text(mean_count(run.step for run in model.runs)),
        Text(mean_duration(run.seconds for run in model.runs)),
        Text(count(model.runs[0].parameters)),
        Text(reach_change(model.reach("start"), model.reach("trained"))),
    ]
