"""Tables, figures and pages from results. Never trains, never measures."""

import html
from collections.abc import Callable
from typing import Any

from throughtime.reports.read import load, read_comparison, read_run
from throughtime.results.comparison import Comparison
from throughtime.results.diagnosis import Diagnosis
from throughtime.results.record import Record, Views, register_views
from throughtime.results.reproduction import Reproduction

__all__ = ["load", "read_comparison", "read_run"]


# The libraries for text and pages are loaded on first use: reading results needs none of them.


def _views(table: Callable[[Any], Any], page: Callable[..., str]) -> Views:
    """Return views from a function for the terminal and one for the page."""
    from throughtime.reports.diagnosis_text import printed

    def text(record: Any) -> str:
        return printed(table(record))

    return Views(text, table, page, lambda record: f"<pre>{html.escape(text(record))}</pre>")


def _of_diagnosis() -> Views:
    from throughtime.reports.diagnosis_text import diagnosis_text
    from throughtime.reports.page import render_fragment, render_page

    return _views(diagnosis_text, render_page)._replace(fragment=render_fragment)


def _of_comparison() -> Views:
    from throughtime.reports.comparison_text import comparison_table
    from throughtime.reports.page import render_report

    return _views(comparison_table, lambda comparison, _=(): render_report(comparison))


def _of_reproduction() -> Views:
    from throughtime.reports.reproduction import render_reproduction, reproduction_table

    return _views(reproduction_table, lambda found, _=(): render_reproduction(found, {}))


def _of_record() -> Views:
    from throughtime.reports.inspection import inspection_table, render_inspection

    return _views(inspection_table, render_inspection)


register_views(Diagnosis, _of_diagnosis)
register_views(Comparison, _of_comparison)
register_views(Reproduction, _of_reproduction)
register_views(Record, _of_record)
