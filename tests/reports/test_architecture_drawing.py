"""Labels of an architecture's picture: none overlaps another, and no edge crosses one."""

import itertools
import random
import re
from typing import NamedTuple
from xml.etree import ElementTree

import pytest

from throughtime.reports.architecture_drawing import architecture_svg
from throughtime.wiring import Architecture, architecture, complexity
from throughtime.wiring.graph import NAMED

SIZES = {"lag": 11, "name": 13, "title": 13}
MIXED = [
    *(("input", "a"), ("input", "c"), ("input", "b", 2), ("a", "b"), ("b", "c"), ("a", "c")),
    *(("c", "output"), ("a", "output"), ("a", "a", 1), ("a", "a", 2), ("a", "a", 7), ("b", "b", 1)),
    *(("c", "a", 1), ("c", "a", 3), ("c", "b", 1), ("a", "b", 1), ("a", "c", 4)),
]


class Box(NamedTuple):
    left: float
    top: float
    right: float
    bottom: float

    def overlaps(self, other: "Box") -> bool:
        beside = self.right <= other.left or other.right <= self.left
        return not beside and not (self.bottom <= other.top or other.bottom <= self.top)

    def holds(self, x: float, y: float, by: float = 0.0) -> bool:
        """True where a point lies inside, farther than `by` from the border."""
        return self.left + by < x < self.right - by and self.top + by < y < self.bottom - by


class Picture:
    """Boxes of labels and nodes, and points of edges, all in the coordinates of the document."""

    def __init__(self, svg: str):
        self.root = ElementTree.fromstring(svg)
        self.labels: list[tuple[str, Box]] = []
        self.nodes: list[Box] = []
        self.edges: list[tuple[float, list[tuple[float, float]]]] = []  # with half their thickness
        self._read(self.root, 0.0, 0.0)

    @property
    def width(self) -> float:
        return float(self.root.attrib["width"])

    def _read(self, parent: ElementTree.Element, x: float, y: float) -> None:
        for element in parent:
            tag, given = element.tag.rpartition("}")[2], element.attrib
            if tag == "g":
                dx, dy = numbers(given["transform"]) if "transform" in given else (0.0, 0.0)
                self._read(element, x + dx, y + dy)
            elif tag == "text":
                self.labels.append((str(element.text), label_box(element, x, y)))
            elif tag == "rect" and "node" in given["class"].split():
                left, top = x + float(given["x"]), y + float(given["y"])
                width, height = float(given["width"]), float(given["height"])
                self.nodes.append(Box(left, top, left + width, top + height))
            elif tag == "path":
                thick = numbers(given.get("style", "1.4"))[0]
                path = [(x + px, y + py) for px, py in points(given["d"])]
                self.edges.append((thick / 2, path))


def numbers(text: str) -> list[float]:
    return [float(part) for part in re.findall(r"-?\d+(?:\.\d+)?", text)]


def label_box(element: ElementTree.Element, x: float, y: float) -> Box:
    kinds = element.attrib["class"].split()
    size = SIZES[kinds[0]]
    width = 0.6 * size * len(str(element.text))
    left = x + float(element.attrib["x"])
    left -= 0 if "start" in kinds else width if "stop" in kinds else width / 2
    baseline = y + float(element.attrib["y"])
    return Box(left, baseline - 0.75 * size, left + width, baseline + 0.2 * size)


def points(path: str) -> list[tuple[float, float]]:
    """Points along a path of M, L and Q, at most two pixels apart."""
    found: list[tuple[float, float]] = []
    for command, text in re.findall(r"([MLQ])([^MLQ]*)", path):
        values = numbers(text)
        end = (values[-2], values[-1])
        if command == "M":
            found.append(end)
            continue
        start = found[-1]
        middle = (values[0], values[1]) if command == "Q" else None
        length = abs(end[0] - start[0]) + abs(end[1] - start[1])
        n = max(1, round(length / 2))
        for k in range(1, n + 1):
            t = k / n
            found.append(
                tuple(
                    (1 - t) * a + t * b
                    if m is None
                    else (1 - t) ** 2 * a + 2 * t * (1 - t) * m + t**2 * b
                    for a, b, m in zip(start, end, middle or (None, None), strict=True)
                )  # pyright: ignore[reportArgumentType]
            )
    return found


def picture(found: Architecture) -> Picture:
    return Picture(architecture_svg(found, complexity(found)))


def drawn(seed: int) -> Architecture:
    """A random architecture of up to five states, with up to six more edges of lags to nine."""
    chosen = random.Random(seed)
    names = ["input", *(f"state{k}" for k in range(chosen.randint(1, 5))), "output"]
    edges = {(a, b, 0) for a, b in itertools.pairwise(names)}
    edges.add((names[1], names[1], 1))
    for _ in range(chosen.randint(0, 6)):
        source = chosen.choice(names[:-1])
        target = chosen.choice(names[1:])
        lag = chosen.choice((0, 1, 1, 2, 3, 9))
        rising = names.index(source) < names.index(target)
        edges.add((source, target, lag if rising else max(lag, 1)))
    return Architecture(sorted(edges), f"drawn {seed}")


def check(shown: Picture) -> None:
    labels = shown.labels
    for (one, box), (other, another) in itertools.combinations(labels, 2):
        assert not box.overlaps(another), f"{one!r} overlaps {other!r}"
    for text, box in labels:
        assert box.left >= 0
        assert box.right <= shown.width
        crossing = [
            path for half, path in shown.edges if any(box.holds(*point, by=-half) for point in path)
        ]
        assert not crossing, f"an edge crosses {text!r}"
    for one, other in itertools.combinations(shown.nodes, 2):
        assert not one.overlaps(other)
    for node in shown.nodes:
        assert not any(node.holds(*point, by=1.0) for _, path in shown.edges for point in path)


@pytest.mark.parametrize("name", NAMED)
def test_named_ones(name: str) -> None:
    for lag in (2, 5, 21, 100):
        shown = picture(architecture(name, lag))
        check(shown)
        assert shown.width <= 1000
        texts = [text for text, _ in shown.labels]
        assert any(text.startswith("lag ") for text in texts)


def test_any_other() -> None:
    check(picture(Architecture(MIXED, "mixed")))
    for seed in range(12):
        check(picture(drawn(seed)))


def test_a_check_that_can_fail() -> None:
    """The boxes are those that a reader sees: moved labels are found."""
    svg = architecture_svg(found := architecture("skip"), complexity(found))
    with pytest.raises(AssertionError, match="overlaps"):
        check(Picture(svg.replace(">lag 1<", ">lag 1 and much more text<")))
    with pytest.raises(AssertionError, match="an edge crosses"):
        check(Picture(re.sub(r'x="[0-9.]+"( y="[0-9.]+">lag 21)', r'x="180"\1', svg)))


def test_steps_between_long_lags_are_left_out() -> None:
    texts = [text for text, _ in picture(architecture("skip", 100)).labels]
    assert [t for t in texts if t.startswith("t")] == ["t-100", "t-99", "t-1", "t"]
    assert texts.count("⋯") == 3
    assert "lag 100" in texts


def test_lags_beyond_eight_columns_are_named() -> None:
    edges = [("input", "h"), ("h", "output"), *(("h", "h", lag) for lag in range(1, 30, 3))]
    texts = [text for text, _ in picture(Architecture(edges)).labels]
    remark = "(without h -> h (lag 16), h -> h (lag 19), h -> h (lag 22) and 1 more)"
    assert f"unfolded in time {remark}" in texts
    assert sum(text == "lag 28" for text in texts) == 1


def test_colours_follow_the_scheme_and_names_are_text() -> None:
    edges = [("input", "<h>&"), ("<h>&", "<h>&", 1), ("<h>&", "output")]
    found = Architecture(edges, 'a "very" long name ' * 9)
    svg = architecture_svg(found, complexity(found))
    assert "@media (prefers-color-scheme: dark)" in svg
    assert "max-width: 100%" in svg
    shown = Picture(svg)
    check(shown)
    assert shown.width <= 1000
    assert "<h>&" in [text for text, _ in shown.labels]
