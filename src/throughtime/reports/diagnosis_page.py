"""The page of a diagnosis: one HTML file that opens anywhere, without a network."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from throughtime.reports import diagnosis_words as words
from throughtime.reports.drawing import Drawing, draw, empty
from throughtime.reports.lines import DASHES
from throughtime.reports.page import figure_data, plotly_bundle, templates
from throughtime.results.diagnosis import Cause, Diagnosis, Estimate, Picture, Remedy

CARRYING = 3
"""How many pictures stand open on the page; the others are folded."""


def render_page(diagnosis: Diagnosis, drawings: Sequence[Drawing] = ()) -> str:
    """The page of a diagnosis as text, with everything that it needs inside.

    Arguments:
        diagnosis: what was found.
        drawings: more figures for the details.
    """
    shown = [_shown(f"picture-{k}", picture) for k, picture in enumerate(diagnosis.pictures)]
    more = [_drawn(f"drawing-{k}", drawing) for k, drawing in enumerate(drawings)]
    return (
        templates()
        .get_template("diagnosis.html")
        .render(
            **_said(diagnosis),
            pictures=shown[:CARRYING],
            folded=shown[CARRYING:] + more,
            figures={one.name: one.data for one in (*shown, *more) if not one.empty},
            dashes=DASHES,
            plotly=plotly_bundle() if shown or more else "",
        )
    )


def render_fragment(diagnosis: Diagnosis) -> str:
    """The verdict, the findings and the remedies as a piece of HTML for notebooks.

    It has no script and no figure.
    """
    return templates().get_template("diagnosis_fragment.html").render(**_said(diagnosis))


@dataclasses.dataclass(frozen=True)
class _Shown:
    """One figure of the page, and what is written around it."""

    name: str
    title: str
    caption: str
    y_label: str
    labels: tuple[str, ...]
    empty: bool
    data: dict[str, Any]


def _shown(name: str, picture: Picture) -> _Shown:
    data = _untitled(figure_data(draw(picture)))
    labels = tuple(series.label for series in picture.series)
    return _Shown(
        name, picture.title, picture.caption, picture.y_label, labels, empty(picture), data
    )


def _drawn(name: str, drawing: Drawing) -> _Shown:
    data = _untitled(figure_data(drawing.figure))
    return _Shown(
        name, drawing.title, drawing.caption, drawing.y_label, drawing.labels, False, data
    )


def _untitled(data: dict[str, Any]) -> dict[str, Any]:
    """A figure without what the page writes above it, where it can be as long as it likes."""
    data["layout"].pop("title", None)
    data["layout"].get("yaxis", {}).pop("title", None)
    return data


def _said(diagnosis: Diagnosis) -> dict[str, Any]:
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
    """Before and after on one scale: each a dot and its interval, in percent of the width.

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
