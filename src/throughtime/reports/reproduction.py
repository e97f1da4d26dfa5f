"""A reproduction as text and as a page: the paper's numbers beside ours."""

import dataclasses
import itertools
import math
from collections.abc import Mapping

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from throughtime.reports import numbers
from throughtime.reports.numbers import duration
from throughtime.results.reproduction import Checked, Measured, Reproduction

_SHARES = ("accuracy", "solved")


def reproduction_markdown(found: Reproduction) -> str:
    """The table and the claims as a page of Markdown."""
    lines = [f"# {found.title}", "", f"Paper: {found.source}.", "", f"Effect: {found.effect}", ""]
    lines += ["| | paper | ours | expected | seeds | time |", "|---|---|---|---|---|---|"]
    for row in found.rows:
        lines.append(f"| {row.label} | {' | '.join(cells(row, found))} |")
    lines += ["", f"Quantity: {found.quantity}. Scale: {found.scale}. {found.differs}", ""]
    lines += [f"- {_said(check, found)}" for check in found.checks]
    lines += ["", found.verdict]
    lines += ["", f"{found.seeds} seeds, {duration(found.seconds)} of runs, {found.device}, "]
    lines[-1] += f"commit {found.commit}."
    return "\n".join(lines) + "\n"


def reproduction_table(found: Reproduction) -> Group:
    """The same for the terminal."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("", overflow="fold", max_width=20)
    for name in ("paper", "ours", "expected", "seeds", "time"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in found.rows:
        table.add_row(Text(row.label, style="bold"), *cells(row, found))
    words = [
        Text(_said(check, found), style="green" if check.holds else "red") for check in found.checks
    ]
    note = Text(f"{found.quantity} on the test set. {found.differs}", style="dim")
    verdict = Text(found.verdict, style="bold")
    return Group(Text(found.title, style="bold"), Text(found.source), table, *words, verdict, note)


def cells(row: Measured, found: Reproduction) -> list[str]:
    """The texts of a row: paper, ours, expected, seeds, time."""
    ours = "diverged"
    if row.ours is not None:
        percent = found.quantity in _SHARES
        wide = 100 * row.ours.deviation if percent else row.ours.deviation
        ours = _shown(row.ours.mean, found)
        if row.ours.n > 1:
            ours += f" ± {wide:.2g}"
        if found.quantity == "solved":
            ours = f"{round(row.ours.mean * row.ours.n)} of {row.ours.n}"
    seeds = str(found.seeds) + (f" ({row.diverged} diverged)" if row.diverged else "")
    expected = "-"
    if row.expected is not None:
        expected = " to ".join(_shown(edge, found) for edge in row.expected)
    paper = "-" if row.paper is None else _shown(row.paper, found)
    return [paper, ours, expected, seeds, duration(row.seconds)]


def judgement(check: Checked, found: Reproduction) -> str:
    """The measure by which a claim was judged, its value and its bound."""
    measure = {
        "difference": " minus ".join(check.of),
        "ratio": " divided by ".join(check.of),
        "order": f"the least rise along {', '.join(check.of)}",
    }.get(check.kind, check.of[0])
    known = check.value is not None and not math.isnan(check.value)
    value = _amount(check.value, check, found) if known and check.value is not None else "not known"
    if check.quantity:
        measure = f"{check.quantity.replace('_', ' ')} of {measure}"
    side = "at most" if check.kind == "below" else "at least"
    return (
        f"{measure}: {value}; required: {side} {_amount(check.bound, check, found)}"
        f"{_caution(check, found)}"
    )


def _caution(check: Checked, found: Reproduction) -> str:
    """A remark where the seeds leave the claim open: one seed, or seeds that overlap."""
    ours = [row.ours for label in check.of for row in found.rows if row.label == label]
    spreads = [spread for spread in ours if spread is not None]
    if any(spread.n == 1 for spread in spreads):
        return "; one seed"
    if check.quantity:  # the spreads are those of the table
        return ""
    overlap = any(max(a.low, b.low) <= min(a.high, b.high) for a, b in itertools.pairwise(spreads))
    # shares of solved runs are zeros and ones, whose ranges nearly always overlap
    return "; the seeds overlap" if overlap and found.quantity != "solved" else ""


def _amount(value: float, check: Checked, found: Reproduction) -> str:
    if check.kind == "ratio":
        return f"{value:.3g}"
    shares = (check.quantity or found.quantity) in _SHARES
    if check.kind in ("difference", "order") and shares:
        return f"{100 * value:.1f} points"
    return f"{100 * value:.1f} %" if shares else f"{value:.3g}"


def _shown(value: float, found: Reproduction) -> str:
    return f"{100 * value:.1f} %" if found.quantity in _SHARES else f"{value:.3g}"


def _said(check: Checked, found: Reproduction) -> str:
    return f"{'yes' if check.holds else 'NO'}: {check.statement} ({judgement(check, found)})"


def render_reproduction(found: Reproduction, reports: Mapping[str, str]) -> str:
    """The page as the text of one HTML file that needs no network.

    Arguments:
        found: the study.
        reports: relative addresses of the pages of its comparisons, by the name of the part; "" is
            the only one.
    """
    from throughtime.reports.page import templates  # loads jinja2 and plotly

    scale = _scale(found)
    return (
        templates()
        .get_template("reproduction.html")
        .render(
            found=found,
            numbers=numbers,
            rows=[(row, cells(row, found), _strip(row, scale)) for row in found.rows],
            claims=[(check, judgement(check, found)) for check in found.checks],
            reports=reports,
            figures=None,
            low=_edge(scale[0], found),
            high=_edge(scale[1], found),
        )
    )


@dataclasses.dataclass(frozen=True)
class _Strip:
    """Places on a scale in percent of its width; None where there is no number."""

    paper: float | None
    ours: float | None
    low: float | None
    high: float | None
    expected: tuple[float, float] | None


def _scale(found: Reproduction) -> tuple[float, float]:
    """The ends of the scale: shares from 0 to 1, other numbers from 0 to the largest."""
    if found.quantity in ("accuracy", "solved"):
        return 0.0, 1.0
    given = [row.ours.high for row in found.rows if row.ours is not None]
    given += [row.paper for row in found.rows if row.paper is not None]
    given += [row.expected[1] for row in found.rows if row.expected is not None]
    return 0.0, max(given, default=1.0) or 1.0


def _strip(row: Measured, scale: tuple[float, float]) -> _Strip:
    def place(value: float | None) -> float | None:
        if value is None:
            return None
        return round(100 * (value - scale[0]) / (scale[1] - scale[0]), 2)

    ours, expected = row.ours, row.expected
    ends = None if expected is None else (place(expected[0]) or 0.0, place(expected[1]) or 0.0)
    if ours is None:
        return _Strip(place(row.paper), None, None, None, ends)
    return _Strip(place(row.paper), place(ours.mean), place(ours.low), place(ours.high), ends)


def _edge(value: float, found: Reproduction) -> str:
    return f"{100 * value:.0f} %" if found.quantity in ("accuracy", "solved") else f"{value:.3g}"
