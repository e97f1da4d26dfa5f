"""What every page is made with: its templates, its figures as data, plotly inside."""

import json
from typing import Any

import jinja2
import plotly.graph_objects as go
import plotly.offline
from markupsafe import Markup, escape

from throughtime.reports.numbers import plain


def templates() -> jinja2.Environment:
    """The templates of the package. What they are given is text, and never markup."""
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
    """A figure as JSON values, without colours: a page gives it its theme."""
    figure.update_layout(template="none")
    return json.loads(figure.to_json() or "{}")


def plotly_bundle() -> Markup:
    """Plotly itself, to be put into a page: some four megabytes."""
    return Markup(plotly.offline.get_plotlyjs())  # noqa: S704 -- plotly's own bundle


def _spaced(name: str) -> str:
    return name.replace("_", " ")


def _unbroken(text: str) -> str:
    """A text in which no line breaks within "94.6 ± 1.2 %"."""
    return text.replace(" ± ", "\u00a0±\u00a0").replace(" %", "\u00a0%")


def _sentence(text: str) -> str:
    """A docstring's first line as a sentence of a page."""
    text = text.replace("`", "").strip()
    return text if not text or text.endswith((".", "!", "?")) else f"{text}."


def _coded(text: str) -> Markup:
    """A text whose parts between backticks are code."""
    parts = [escape(part) for part in text.split("`")]
    if len(parts) % 2 == 0:  # one backtick is left over
        return escape(text)
    code = Markup("<code>{}</code>")
    return Markup("").join(code.format(p) if k % 2 else p for k, p in enumerate(parts))
