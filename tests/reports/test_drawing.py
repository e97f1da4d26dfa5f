"""Pictures as figures: curves, bands, guides, and values that have no place on an axis."""

import dataclasses
import json
import math
import re

import pytest
from reports.diagnoses import GRADIENT, HOSTILE, LONG

from throughtime.reports.drawing import draw
from throughtime.results.diagnosis import Picture, Series


def test_picture_as_a_figure() -> None:
    figure = draw(GRADIENT)
    roles = [(t.meta["series"], t.meta["role"]) for t in figure.data]
    assert roles == [(0, "band"), (0, "line"), (1, "band"), (1, "line")]
    line = figure.data[1]
    assert line.x == GRADIENT.series[0].x
    assert line.y == pytest.approx(GRADIENT.series[0].y, rel=1e-4)
    across, upright = figure.layout.shapes
    assert (across.y0, across.y1) == (0.01, 0.01)
    assert (upright.x0, upright.x1) == (100, 100)
    low, high = figure.layout.yaxis.range
    assert low < math.log10(min(GRADIENT.series[0].y))
    assert high > 0
    assert [a.text for a in figure.layout.annotations] == [
        "1 % of the largest",
        "dependency length, 100",
    ]


def one(*y: float, logarithmic: bool = True) -> Picture:
    x = tuple(map(float, range(len(y))))
    return Picture("t", "c", "x", "y", (Series("s", x, y),), logarithmic=logarithmic)


def test_zero_on_a_logarithmic_axis_is_a_triangle_at_zero() -> None:
    figure = draw(one(1.0, 0.1, 0.0, 0.0))
    line, zeros = figure.data
    assert line.y == (1.0, 0.1, None, None)
    assert zeros.x == (2, 3)
    ticks = dict(zip(figure.layout.yaxis.ticktext, figure.layout.yaxis.tickvals, strict=True))
    assert set(zeros.y) == {ticks["0"]}
    assert 10 ** figure.layout.yaxis.range[0] < ticks["0"] < 0.1
    assert "0 " in zeros.hovertemplate


def test_infinity_is_a_triangle_and_nan_a_gap() -> None:
    for logarithmic in (False, True):
        figure = draw(one(1.0, 2.0, math.nan, math.inf, 3.0, logarithmic=logarithmic))
        line, alone, infinite = figure.data
        assert line.y == (1.0, 2.0, None, None, 3.0)
        assert (alone.x, alone.y) == ((4,), (3,))
        assert infinite.x == (3,)
        ticks = dict(zip(figure.layout.yaxis.ticktext, figure.layout.yaxis.tickvals, strict=True))
        assert infinite.y == (ticks["∞"],)
        assert infinite.y[0] > 3


def test_band_ends_where_it_is_not_a_number() -> None:
    y = (1.0, 1.0, 1.0, 1.0, 1.0)
    low, high = (0.5, 0.5, math.nan, 0.5, 0.5), (2.0, math.inf, 2.0, 2.0, 2.0)
    picture = Picture("t", "c", "x", "y", (Series("s", (0, 1, 2, 3, 4), y, low, high),))
    bands = [t for t in draw(picture).data if t.meta["role"] == "band"]
    assert [t.x for t in bands] == [(0, 1, 1, 0), (3, 4, 4, 3)]
    assert all(math.isfinite(v) for t in bands for v in t.y)


def test_gradient_that_vanishes_does_not_stretch_the_axis() -> None:
    figure = draw(one(*(10.0 ** -(5 * k) for k in range(12))))
    assert figure.layout.yaxis.range[0] > -18
    assert len(figure.layout.yaxis.tickvals) <= 8


def test_labels_are_text_for_plotly() -> None:
    picture = dataclasses.replace(GRADIENT, x_label=HOSTILE, mark=(3.0, LONG), level=(0.1, HOSTILE))
    figure = draw(picture)
    texts = [a.text for a in figure.layout.annotations] + [figure.layout.xaxis.title.text]
    assert not re.search(r"<(?!br>)", "".join(texts))
    assert all(len(part) <= 60 for text in texts for part in text.split("<br>"))


@pytest.mark.parametrize(
    "y",
    [(), (1.0,), (0.0,), (math.inf,), (math.nan, math.nan), (1e308, -1e308), (5e-324, 1e308)],
    ids=str,
)
@pytest.mark.parametrize("logarithmic", [False, True])
def test_odd_values_can_be_drawn(y: tuple[float, ...], logarithmic: bool) -> None:
    figure = draw(one(*y, logarithmic=logarithmic))
    low, high = figure.layout.yaxis.range
    assert math.isfinite(low)
    assert math.isfinite(high)
    assert low < high
    json.loads(figure.to_json() or "")
