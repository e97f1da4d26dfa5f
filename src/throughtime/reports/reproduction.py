"""What a reproduction came to: the paper's numbers beside ours, and whether the effect is there."""

import dataclasses
import math
from typing import Any

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from throughtime.reports.comparison import Spread
from throughtime.reports.numbers import duration


@dataclasses.dataclass(frozen=True)
class Measured:
    """One row of the table.

    Attributes:
        label: as the paper has it.
        model: as it was run.
        paper: the paper's number, or None.
        expected: the range in which ours was expected, or None.
        ours: over seeds; None where every run diverged.
        diverged: runs that did.
        seconds: of all its runs.
    """

    label: str
    model: str
    paper: float | None
    expected: tuple[float, float] | None
    ours: Spread | None
    diverged: int
    seconds: float


@dataclasses.dataclass(frozen=True)
class Checked:
    """A part of the effect: what was asked, what was found, and whether it is met."""

    statement: str
    value: float | None
    bound: float
    holds: bool


@dataclasses.dataclass(frozen=True)
class Reproduction:
    """A study that was run.

    Attributes:
        name, title, source, effect, differs, quantity: of the study.
        scale: at which it was run.
        rows: of the table.
        checks: of the effect.
        seeds: of each model.
        seconds: of all runs together.
        commit: of the source, or the version where there is none.
        device: that it ran on.
    """

    name: str
    title: str
    source: str
    effect: str
    differs: str
    quantity: str
    scale: str
    rows: tuple[Measured, ...]
    checks: tuple[Checked, ...]
    seeds: int
    seconds: float
    commit: str
    device: str

    @property
    def reproduced(self) -> bool:
        """Whether every part of the effect is there."""
        return all(check.holds for check in self.checks)

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            "schema_version": 1,
            **dataclasses.asdict(self),
            "reproduced": self.reproduced,
        }


def reproduction_markdown(found: Reproduction) -> str:
    """The table and the checks as a page of Markdown.

    Arguments:
        found: of any study.
    """
    lines = [f"# {found.title}", "", f"{found.source}.", "", found.effect, ""]
    lines += ["| | paper | ours | expected | seeds | time |", "|---|---|---|---|---|---|"]
    for row in found.rows:
        lines.append(f"| {row.label} | {' | '.join(_cells(row, found))} |")
    lines += ["", f"Quantity: {found.quantity}. Scale: {found.scale}. {found.differs}", ""]
    lines += [f"- {_said(check)}" for check in found.checks]
    lines += ["", f"{found.seeds} seeds, {duration(found.seconds)} of runs, {found.device}, "]
    lines[-1] += f"commit {found.commit}."
    return "\n".join(lines) + "\n"


def reproduction_table(found: Reproduction) -> Group:
    """The same for the terminal.

    Arguments:
        found: of any study.
    """
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("", overflow="fold", max_width=20)
    for name in ("paper", "ours", "expected", "seeds", "time"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in found.rows:
        table.add_row(Text(row.label, style="bold"), *_cells(row, found))
    words = [Text(_said(check), style="green" if check.holds else "red") for check in found.checks]
    note = Text(f"{found.quantity} on the test set. {found.differs}", style="dim")
    return Group(Text(found.title, style="bold"), Text(found.source), table, *words, note)


def _cells(row: Measured, found: Reproduction) -> list[str]:
    percent = found.quantity in ("accuracy", "solved")

    def shown(value: float) -> str:
        return f"{100 * value:.1f} %" if percent else f"{value:.3g}"

    ours = "diverged"
    if row.ours is not None:
        wide = 100 * row.ours.deviation if percent else row.ours.deviation
        ours = f"{shown(row.ours.mean)} ± {wide:.2g}"
        if found.quantity == "solved":
            ours = f"{round(row.ours.mean * row.ours.n)} of {row.ours.n}"
    seeds = str(found.seeds) + (f" ({row.diverged} diverged)" if row.diverged else "")
    expected = "-" if row.expected is None else " to ".join(map(shown, row.expected))
    paper = "-" if row.paper is None else shown(row.paper)
    return [paper, ours, expected, seeds, duration(row.seconds)]


def _said(check: Checked) -> str:
    value = "not known" if check.value is None or math.isnan(check.value) else f"{check.value:.3g}"
    return f"{'yes' if check.holds else 'NO'}: {check.statement} ({value}; asked {check.bound:.3g})"
