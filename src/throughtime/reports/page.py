"""HTML pages that need no network: their common parts; the page of a comparison, of a diagnosis."""

import base64
import dataclasses
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
import plotly.graph_objects as go
import plotly.offline
import torch
from markupsafe import Markup, escape

from throughtime.reports import diagnosis_text as words
from throughtime.reports import figures, numbers
from throughtime.reports.comparison_text import csv_link, finding, model_rows, run_rows, starred
from throughtime.reports.drawing import Drawing, draw, empty
from throughtime.reports.lines import DASHES
from throughtime.reports.memory_maps import access_map
from throughtime.reports.numbers import plain
from throughtime.reports.picture_svg import picture_svg
from throughtime.reports.word_maps import attention_map, hop_map
from throughtime.results.atomic import write_whole
from throughtime.results.comparison import Comparison, Run
from throughtime.results.diagnosis import Cause, Diagnosis, Estimate, Picture, Remedy
from throughtime.results.samples import AttentionSample, Samples


def templates() -> jinja2.Environment:
    """Return the templates of the package. Values in them are text, never markup."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("throughtime.reports"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["base64"] = _base64
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
        y_label: Text of the y axis with an arrow in its direction, above the figure; "" for none.
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
    axis = data["layout"].get("yaxis", {})
    axis.pop("title", None)
    arrow = "↓" if axis.get("autorange") == "reversed" else "↑"
    y_label = f"{arrow} {shown.y_label}" if shown.y_label else ""
    return PageFigure(name, shown.title, shown.caption, y_label, labels, nothing, data)


def plotly_bundle() -> Markup:
    """Return plotly itself, to be put into a page: some four megabytes."""
    return Markup(plotly.offline.get_plotlyjs())  # noqa: S704 -- plotly's own bundle


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


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


def write_report(comparison: Comparison) -> Path:
    """Write the report into the comparison's folder, whole or not at all.

    Raises:
        RunWriteError: the folder cannot be written, or the disk is full.
    """
    write_whole(comparison.report, render_report(comparison).encode("utf-8", "backslashreplace"))
    return comparison.report


def render_report(comparison: Comparison) -> str:
    """Return the report as the text of one HTML page that needs no network."""
    comparison, only = comparison.in_short, comparison.only_model
    asked = [model.name or model.label for model in comparison.models]
    short = [name if only else name.split(", ")[0] for name in asked]
    names = numbers.listed([*dict.fromkeys(short)])
    stars, star_told = starred(comparison)
    shown = {
        comparison.task.headline.name: figures.headline_figure(comparison),
        "loss": figures.loss_figure(comparison),
        "gradient_start": figures.gradient_figure(comparison, "start"),
        "gradient": figures.gradient_figure(comparison, "trained"),
    }
    outputs = _outputs(comparison)
    maps = {one.name: one.data for each in outputs for one in each.maps}
    return (
        templates()
        .get_template("comparison.html")
        .render(
            comparison=comparison,
            task=comparison.task,
            models=comparison.models,
            finding=finding(comparison),
            title=f"{comparison.task.spec}: {f'{only}, ' if only else ''}{names}",
            stars=stars,
            star_told=star_told,
            headline=comparison.task.headline,
            csv_name=comparison.folder.name,
            csv_models=csv_link(model_rows(comparison)),
            csv_runs=csv_link(run_rows(comparison)),
            numbers=numbers,
            dashes=DASHES,
            reach_level=f"{100 * figures.FRACTION:g} %",
            figures={**{name: figure_data(figure) for name, figure in shown.items()}, **maps},
            outputs=outputs,
            smoothed=figures.smoothed(shown[comparison.task.headline.name])
            or figures.smoothed(shown["loss"]),
            smoothed_by_lag=figures.smoothed(shown["gradient_start"])
            or figures.smoothed(shown["gradient"]),
            shared=_shared([{**run.config, **_environment(run)} for run in comparison.runs]),
            environment_of=_environment,
            plotly=plotly_bundle(),
        )
    )


@dataclasses.dataclass(frozen=True)
class Outputs:
    """Outputs of the first run of a model that has some.

    Attributes:
        index: Number of the model.
        run: The run.
        samples: Its outputs.
        maps: Pictures of its attention and of its memories.
    """

    index: int
    run: Run
    samples: Samples
    maps: tuple[PageFigure, ...]


def _outputs(comparison: Comparison) -> list[Outputs]:
    found: list[Outputs] = []
    for index, model in enumerate(comparison.models):
        run = next((run for run in model.runs if run.samples is not None), None)
        if run is None or run.samples is None:
            continue
        drawings = [_attention(one) for one in run.samples.attention]
        for one in run.samples.memories:
            drawings.append(access_map("read", torch.tensor(one.read)))
            drawings.append(access_map("written", torch.tensor(one.written)))
        maps = tuple(page_figure(f"outputs-{index}-{k}", one) for k, one in enumerate(drawings))
        found.append(Outputs(index, run, run.samples, maps))
    return found


def _attention(sample: AttentionSample) -> Drawing:
    source, target, weights = sample.source, sample.target, torch.tensor(sample.weights)
    if sample.question:
        return hop_map(source, target, weights, sample.question)
    return attention_map(source, target, weights)


def _environment(run: Run) -> dict[str, Any]:
    values = dict(run.environment)
    if isinstance(values.get("engines"), list):
        values["engines"] = ", ".join(values["engines"])
    return values


def _shared(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the entries that are equal in all rows."""
    first, *others = rows
    return {
        key: value
        for key, value in first.items()
        if all(key in row and row[key] == value for row in others)
    }


CARRYING = 3
"""Number of pictures that are open on the page; the others are folded."""


def render_page(diagnosis: Diagnosis, drawings: Sequence[Drawing] = ()) -> str:
    """Return the page of a diagnosis as the text of one HTML file that needs no network."""
    shown = [page_figure(f"picture-{k}", picture) for k, picture in enumerate(diagnosis.pictures)]
    more = [page_figure(f"drawing-{k}", drawing) for k, drawing in enumerate(drawings)]
    return (
        templates()
        .get_template("diagnosis.html")
        .render(
            **_content(diagnosis),
            pictures=shown[:CARRYING],
            folded=shown[CARRYING:] + more,
            figures={one.name: one.data for one in (*shown, *more) if not one.empty},
            dashes=DASHES,
            plotly=plotly_bundle() if shown or more else "",
        )
    )


def render_fragment(diagnosis: Diagnosis) -> str:
    """Return the verdict, the findings, the remedies and the pictures as HTML for notebooks.

    There is no script in it: the pictures are SVG.
    """
    shown = [(one, Markup(picture_svg(one))) for one in diagnosis.pictures if not empty(one)]  # noqa: S704 -- escaped there
    return (
        templates()
        .get_template("diagnosis_fragment.html")
        .render(**_content(diagnosis), pictures=shown[:CARRYING], folded=shown[CARRYING:])
    )


def _content(diagnosis: Diagnosis) -> dict[str, Any]:
    return {
        "diagnosis": diagnosis,
        "headline": words.headline(diagnosis),
        "meaning": words.MEANINGS[diagnosis.verdict],
        "mood": words.mood(diagnosis),
        "certainty": words.certainty(diagnosis),
        "certainties": words.CERTAINTIES,
        "open": diagnosis.verdict is Cause.INCONCLUSIVE,
        "words": words,
        "strip": _strip,
    }


def _strip(remedy: Remedy) -> list[dict[str, float]]:
    """Return before and after on one scale: each a dot and its interval, in percent of the width.

    Empty where a number is not finite. The scale is logarithmic where the numbers are positive and
    a hundredfold apart.
    """
    pair = (remedy.before, remedy.after)
    given = [value for e in pair for value in _ends(e)]
    if not all(math.isfinite(value) for value in given):
        return []
    logarithmic = min(given) > 0 and max(given) > 100 * min(given)

    def position(value: float) -> float:
        return math.log10(value) if logarithmic else value

    low, high = position(min(given)), position(max(given))
    if not 0 < high - low < math.inf:
        return []

    def percent(value: float) -> float:
        return round(3 + 94 * (position(value) - low) / (high - low), 2)

    return [
        {
            "at": percent(value),
            "left": percent(first),
            "width": round(percent(last) - percent(first), 2),
        }
        for value, first, last in map(_ends, pair)
    ]


def _ends(estimate: Estimate) -> tuple[float, float, float]:
    if words.exact(estimate):
        return estimate.value, estimate.value, estimate.value
    return estimate.value, estimate.low, estimate.high
