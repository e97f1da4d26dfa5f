"""The page of a reproduction: the paper, its numbers beside ours, and each claim with yes or no."""

import dataclasses
from collections.abc import Mapping

from throughtime.reports import numbers
from throughtime.reports.page import templates
from throughtime.reports.reproduction import cells, judgement
from throughtime.results.reproduction import Measured, Reproduction


def render_reproduction(found: Reproduction, reports: Mapping[str, str]) -> str:
    """The page as the text of one HTML file that needs no network.

    Arguments:
        found: the study.
        reports: relative addresses of the pages of its comparisons, by the name of the part; "" is
            the only one.
    """
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
