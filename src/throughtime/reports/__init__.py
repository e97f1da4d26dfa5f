"""Tables, figures and pages from results. Never trains, never measures."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from throughtime.reports.read import read_comparison, read_run
from throughtime.results.diagnosis import Diagnosis
from throughtime.results.views import Views, register_views

if TYPE_CHECKING:
    from rich.console import Group

__all__ = ["read_comparison", "read_run"]


# The libraries for text and pages are loaded on first use: reading results needs none of them.


def _text(diagnosis: Diagnosis) -> str:
    from throughtime.reports.diagnosis_text import plain_text

    return plain_text(diagnosis)


def _terminal(diagnosis: Diagnosis) -> "Group":
    from throughtime.reports.diagnosis_text import diagnosis_text

    return diagnosis_text(diagnosis)


def _page(diagnosis: Diagnosis, drawings: Sequence[Any] = ()) -> str:
    from throughtime.reports.diagnosis_page import render_page

    return render_page(diagnosis, drawings)


def _fragment(diagnosis: Diagnosis) -> str:
    from throughtime.reports.diagnosis_page import render_fragment

    return render_fragment(diagnosis)


register_views(Diagnosis, Views(_text, _terminal, _page, _fragment))
