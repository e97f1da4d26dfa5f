"""The page of a diagnosis: one HTML file that opens anywhere, without a network."""

import math
from collections.abc import Sequence
from typing import Any

from throughtime.reports import diagnosis_text as words
from throughtime.reports.drawing import Drawing
from throughtime.reports.lines import DASHES
from throughtime.reports.page import page_figure, plotly_bundle, templates
from throughtime.results.diagnosis import Cause, Diagnosis, Estimate, Remedy

CARRYING = 3
"""Number of pictures that are open on the page; the others are folded."""


def render_page(diagnosis: Diagnosis, drawings: Sequence[Drawing] = ()) -> str:
    """Return the page of a diagnosis as the text of one HTML file that needs no network.

    Arguments:
        diagnosis: The diagnosis.
        drawings: More figures for the details.
    """
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
    """Return the verdict, the findings and the remedies as HTML for notebooks.

    There is no script and no figure in it.
    """
    return templates().get_template("diagnosis_fragment.html").render(**_content(diagnosis))


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
