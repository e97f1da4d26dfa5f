"""Strokes, piano rolls and curves: what is drawn, and what is refused."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest

from throughtime.core.errors import ShapeError
from throughtime.reports.frame_drawings import curves_svg, notes, piano_roll_svg, strokes_svg


def paths(svg: str) -> list[str]:
    ElementTree.fromstring(svg)
    return re.findall(r'<path d="([^"]*)"', svg)


def test_a_lifted_pen_draws_nothing():
    moves = np.array([[5, 5, 0], [1, 0, 1], [0, 2, 0], [1, 0, 0]])
    (path,) = paths(strokes_svg([moves]))
    assert [step[0] for step in path.split() if step[0] in "ML"] == ["M", "L", "M", "L"]
    points = np.array([float(n) for n in re.findall(r"[\d.]+", path)]).reshape(-1, 2)
    whole = moves[:, :2].cumsum(0)
    scale = (points[1] - points[0])[0]
    assert np.allclose((points - points[0]) / scale, whole - whole[0], atol=1e-2)


def test_each_drawing_has_a_place_of_its_own():
    found = paths(strokes_svg([np.array([[0, 0, 0], [1, 1, 0]])] * 5))
    starts = {tuple(re.findall(r"[\d.]+", path)[:2]) for path in found}
    assert len(starts) == 5


def test_notes_are_runs_of_a_key():
    piece = np.array([[1, 0], [1, 1], [0, 1], [1, 1]])
    assert sorted(notes(piece)) == [(0, 0, 2), (0, 3, 4), (1, 1, 4)]
    svg = piano_roll_svg([piece, piece[:2]])
    ElementTree.fromstring(svg)
    assert svg.count('fill="#1f5fa8"') == 3 + 2


def test_curves_stay_in_the_picture():
    frames = np.random.default_rng(0).normal(size=(9, 3))
    found = paths(curves_svg([frames, frames[:2]]))
    assert len(found) == 6
    y = [float(n) for path in found for n in re.findall(r"[ML][\d.]+ ([\d.]+)", path)]
    assert 0 <= min(y) <= max(y) <= 240
    assert len(paths(curves_svg([np.zeros((1, 1))]))) == 1


@pytest.mark.parametrize("draw", [strokes_svg, piano_roll_svg, curves_svg])
def test_what_cannot_be_drawn(unchecked, draw):
    for wrong in ([], [np.zeros((0, 3))], [np.zeros((2, 3)), np.zeros((2, 4))]):
        with pytest.raises(ShapeError, match="one at least"):
            draw(wrong)
