"""The table of a comparison for the terminal: readable at 80 columns."""

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from throughtime.reports.comparison import Comparison, ModelRuns
from throughtime.reports.numbers import (
    count,
    loss,
    mean_count,
    mean_duration,
    percent,
    percent_spread,
    reach_change,
)


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
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("model", overflow="fold", max_width=24)
    table.add_column("test accuracy", justify="right", no_wrap=True)
    if task.answer in ("value", "value_per_step"):
        table.add_column("test loss", justify="right", no_wrap=True)
    for name in ("steps", "time", "parameters"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("gradient\nreach", justify="right", no_wrap=True)
    for model in comparison.models:
        table.add_row(*_cells(model, with_loss=task.answer in ("value", "value_per_step")))
    return Group(heading, table, note)


def _cells(model: ModelRuns, *, with_loss: bool) -> list[Text]:
    accuracy = percent_spread(model.test("accuracy"))
    lost = len(model.runs) - len(model.finished)
    return [
        Text(model.label, style="bold"),
        Text.assemble(accuracy, (f"\n{lost} of {len(model.runs)} diverged", "red"))
        if lost
        else Text(accuracy),
        *([Text(loss(model.test("loss")))] if with_loss else []),
        Text(mean_count(run.step for run in model.runs)),
        Text(mean_duration(run.seconds for run in model.runs)),
        Text(count(model.runs[0].parameters)),
        Text(reach_change(model.reach("start"), model.reach("trained"))),
    ]
