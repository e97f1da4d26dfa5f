"""Parts that all pages share: templates, figures as data, plotly itself."""

import dataclasses
import json
from typing import Any

import jinja2
import plotly.graph_objects as go
import plotly.offline
from markupsafe import Markup, escape

from throughtime.reports.drawing import Drawing, draw, empty
from throughtime.reports.numbers import plain
from throughtime.results.diagnosis import Picture


def templates() -> jinja2.Environment:
    """Return the templates of the package. Values in them are text, never markup."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("throughtime.reports"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["sentence"] = _sentence
    environment.filters["coded"] = _coded
    environment.filters["plain"] = plain
    environment.filters["spaced"] = _spaced
    environment.filters["unbroken"] = _unbroken
    return environment


def figure_data(figure: go.Figure) -> dict[str, Any]:
    """Return a figure as JSON values, without colours: the page has its own theme."""
    figure.update_layout(template="none")
    return json.loads(figure.to_json() or "{}")


@dataclasses.dataclass(frozen=True)
class PageFigure:
    """A figure of a page, and the texts around it.

    Attributes:
        name: Name within the page.
        title: A sentence above the figure.
        caption: An explanation below it.
        y_label: Text of the y axis, above the figure.
        labels: Names of the series, in the order of their colours.
        empty: If True, there is no value to draw.
        data: The figure, as plotly's JSON.
    """

    name: str
    title: str
    caption: str
    y_label: str
    labels: tuple[str, ...]
    empty: bool
    data: dict[str, Any]


def page_figure(name: str, shown: Picture | Drawing) -> PageFigure:
    """Return a picture or drawing as a figure of a page.

    The page writes the title and the name of the y axis above the figure, at any length.
    """
    if isinstance(shown, Picture):
        figure, labels = draw(shown), tuple(series.label for series in shown.series)
        nothing = empty(shown)
    else:
        figure, labels, nothing = shown.figure, shown.labels, False
    data = figure_data(figure)
    data["layout"].pop("title", None)
    data["layout"].get("yaxis", {}).pop("title", None)
    return PageFigure(name, shown.title, shown.caption, shown.y_label, labels, nothing, data)


def plotly_bundle() -> Markup:
    """Return plotly itself, to be put into a page: some four megabytes."""
    return Markup(plotly.offline.get_plotlyjs())  # noqa: S704 -- plotly's own bundle


def _spaced(name: str) -> str:
    return name.replace("_", " ")


def _unbroken(text: str) -> str:
    """Return a text in which no line breaks within "94.6 ± 1.2 %"."""
    return text.replace(" ± ", "\u00a0±\u00a0").replace(" %", "\u00a0%")


def _sentence(text: str) -> str:
    """Return a docstring's first line as a sentence of a page."""
    text = text.replace("`", "").strip()
    return text if not text or text.endswith((".", "!", "?")) else f"{text}."


def _coded(text: str) -> Markup:
    """Return a text whose parts between backticks are code."""
    parts = [escape(part) for part in text.split("`")]
    if len(parts) % 2 == 0:  # one backtick is left over
        return escape(text)
    code = Markup("<code>{}</code>")
    return Markup("").join(code.format(p) if k % 2 else p for k, p in enumerate(parts))
