"""A picture as SVG: the points are where the values are, and nothing of it is markup."""

import dataclasses
import math
import re
import sys
import xml.etree.ElementTree as ET

import pytest
from reports.diagnoses import ALL, HEALTHY, VANISHING

from throughtime.core.errors import ConfigurationError
from throughtime.reports.picture_svg import picture_svg
from throughtime.results.diagnosis import Picture, Series
from throughtime.results.record import check_suffix

NAME = "{http://www.w3.org/2000/svg}"


def picture(y: tuple[float, ...], **options) -> Picture:
    x = tuple(map(float, range(len(y))))
    return Picture("It <falls>.", "", "lag", "norm", (Series("a", x, y),), **options)


def curves(svg: str) -> list[list[tuple[float, float]]]:
    """Points of each curve."""
    paths = [path for path in ET.fromstring(svg).iter(f"{NAME}path") if path.get("stroke-width")]
    return [
        [(float(x), float(y)) for x, y in re.findall(r"([\d.]+) ([\d.]+)", path.get("d") or "")]
        for path in paths
    ]


@pytest.mark.parametrize("name", ALL)
def test_every_picture_is_well_formed(name: str) -> None:
    for one in ALL[name].pictures:
        for alone in (False, True):
            root = ET.fromstring(picture_svg(one, alone=alone))
            assert root.findtext(f"{NAME}title")
            assert "nan" not in picture_svg(one, alone=alone)


def test_equal_steps_are_equal_distances() -> None:
    for given, logarithmic in (((1.0, 2.0, 3.0), False), ((1.0, 0.1, 0.01), True)):
        ((a, b, c),) = curves(picture_svg(picture(given, logarithmic=logarithmic)))
        assert b[0] - a[0] == pytest.approx(c[0] - b[0], abs=0.11)
        assert b[1] - a[1] == pytest.approx(c[1] - b[1], abs=0.11)
        assert (b[1] < a[1]) == (given[1] > given[0])


def test_a_gap_and_what_the_axis_cannot_show() -> None:
    svg = picture_svg(picture((1.0, math.nan, 0.5, 0.0), logarithmic=True))
    (path,) = [p for p in ET.fromstring(svg).iter(f"{NAME}path") if p.get("stroke-width")]
    assert (path.get("d") or "").count("M") == 2
    assert svg.count('Z" fill=') == 1  # zero, at the edge
    assert ">0</text>" in svg
    marked = dataclasses.replace(picture((1.0, 0.5)), mark=(1.0, "needed"), level=(0.7, "<it>"))
    assert ">needed</text>" in picture_svg(marked)
    assert ">&lt;it&gt;</text>" in picture_svg(marked)


def test_the_forms_of_a_file(tmp_path, monkeypatch) -> None:
    svg = VANISHING.save(tmp_path / "a.svg").read_text(encoding="utf-8")
    assert svg == picture_svg(VANISHING.pictures[0], alone=True)
    text = VANISHING.save(tmp_path / "a.txt").read_text(encoding="utf-8")
    assert text == f"{VANISHING}\n"
    assert VANISHING.save(tmp_path / "page").read_text(encoding="utf-8").startswith("<!")
    monkeypatch.setitem(sys.modules, "kaleido", None)
    with pytest.raises(ConfigurationError, match=r"a picture as .png: got no package kaleido"):
        VANISHING.save(tmp_path / "a.png")
    with pytest.raises(ConfigurationError, match=r"form of a.jpeg: got '.jpeg', expected .html"):
        VANISHING.save(tmp_path / "a.jpeg")
    with pytest.raises(ConfigurationError, match="got a result without any"):
        dataclasses.replace(HEALTHY, pictures=()).save(tmp_path / "a.svg")
    assert not list(tmp_path.glob("a.png"))
    check_suffix("diagnosis.html")
