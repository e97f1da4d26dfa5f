"""Tables, figures and pages from results. Never trains, never measures."""

import html
import importlib.util
from collections.abc import Callable
from typing import Any

from throughtime.core.errors import ConfigurationError
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

    return Views(
        text, table, page, lambda record: f"<pre>{html.escape(text(record))}</pre>", _image
    )


def _image(record: Any, form: str) -> bytes:
    """Return a record's first picture as a file."""
    from throughtime.reports.picture_svg import picture_svg
    from throughtime.reports.plot import plot

    if form == "svg" and isinstance(record, Diagnosis) and record.pictures:
        return picture_svg(record.pictures[0], alone=True).encode()
    figure = plot(record)
    if importlib.util.find_spec("kaleido") is None:
        raise ConfigurationError(
            f"a picture as .{form}",
            got="no package kaleido, with which plotly writes such files",
            expected="a page, with all pictures: .html",
            fix="Or pip install kaleido.",
        )
    return figure.to_image(format=form)


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
