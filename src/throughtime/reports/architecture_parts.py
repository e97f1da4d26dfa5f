"""Nodes, edges and labels of both graphs of an architecture, and the places of the nodes."""

import html
import math
from collections.abc import Callable, Hashable, Sequence
from typing import TypeAlias, TypeVar, final

from rich.cells import cell_len, set_cell_size

from throughtime.wiring import Architecture, Edge
from throughtime.wiring.graph import INPUT, OUTPUT

Point: TypeAlias = tuple[float, float]
_T = TypeVar("_T", bound=Hashable)

MARGIN, TRACK, STUB = 24.0, 9.0, 7.0
"""Pixels around a graph; between level tracks; between edges on one side of a node."""

_HALF, _GAP = 19.0, 40.0
_NAME_CELLS = 12


@final
class Parts:
    """Elements of a picture. Edges come first, so that nodes and labels lie above them.

    Arguments:
        paints: names of the measures that each edge shows.
    """

    def __init__(self, paints: dict[Edge, list[str]]):
        self._paints = paints
        self._edges: list[str] = []
        self._nodes: list[str] = []
        self._shift = ""

    def translate(self, x: float, y: float) -> None:
        """Move all elements by (x, y)."""
        self._shift = f' transform="translate({x:.1f} {y:.1f})"'

    def text(self) -> str:
        """The elements as one SVG group."""
        return f"<g{self._shift}>\n" + "\n".join(self._edges + self._nodes) + "\n</g>\n"

    def label(self, x: float, y: float, text: str, kind: str = "lag") -> None:
        """Add a text whose middle height is y."""
        self._nodes.append(
            f'<text class="{kind}" x="{x:.1f}" y="{y + 4:.1f}">{html.escape(text)}</text>'
        )

    def node(self, x: float, y: float, width: float, half: float, name: str) -> None:
        """Add a node around (x, y), twice `half` high, with its name, shortened if long."""
        kind = "node end" if name in (INPUT, OUTPUT) else "node"
        self._nodes.append(
            f'<rect class="{kind}" x="{x - width / 2:.1f}" y="{y - half:.1f}" width="{width:.1f}" '
            f'height="{2 * half:.1f}" rx="10"><title>{html.escape(name)}</title></rect>'
        )
        self.label(x, y, shortened(name, _NAME_CELLS), "name")

    def edge(self, edge: Edge, points: Sequence[Point]) -> None:
        """Add a path through the points, in the colours of all its measures, side by side."""
        names = self._paints[edge] or ["plain"]
        for k, name in reversed(list(enumerate(names))):
            kind = css_class(name) + (" delayed" if edge.lag else "")
            self.line(points, kind, 0 if name == "plain" else 3 + 5 * k, name if k == 0 else "")

    def line(self, points: Sequence[Point], kind: str, thick: float = 0, head: str = "") -> None:
        """Add a path of a CSS class, with an arrow where `head` names one."""
        style = f' style="stroke-width: {thick}"' if thick else ""
        style += f' marker-end="url(#{css_class(head)})"' if head else ""
        self._edges.append(f'<path class="{kind}" d="{_rounded(points)}"{style}/>')


@final
class Rows:
    """The height of each node, shared by both graphs: in the order of computation, input lowest.

    Arguments:
        architecture: the graph.
        tracks: number of level tracks in the gap above each row.

    Attributes:
        order: names of nodes by row.
        row: rows by name.
        y: middle heights by name.
        half: half the height of each node: it grows with the edges that leave it sideways.
        width: Width of every node.
        height: Distance from the top of the highest node to the bottom of the lowest.
    """

    def __init__(self, architecture: Architecture, tracks: Sequence[int]):
        self.order = (INPUT, *architecture.states, OUTPUT)
        self.row = {name: k for k, name in enumerate(self.order)}
        widest = max(cell_len(shortened(name, _NAME_CELLS)) for name in self.order)
        self.width = max(56.0, 8.0 * widest + 16)
        self.half = {
            name: max(_HALF, stub(_stubs(architecture, name, self.row)) + 5) for name in self.order
        }
        self.y: dict[str, float] = {}
        y = 0.0
        for name in reversed(self.order):
            above = self.row[name]
            y += (_GAP + TRACK * tracks[above]) if name != self.order[-1] else 0.0
            self.y[name] = y + self.half[name]
            y += 2 * self.half[name]
        self.height = y


def _stubs(architecture: Architecture, name: str, row: dict[str, int]) -> int:
    """The number of edges between a node's middle and its upper or lower end, on one side."""
    loops = sum(e.source == e.target == name for e in architecture.edges)
    up, down = (
        [
            e
            for e in architecture.edges
            if e.source != e.target and (row[e.target] > row[e.source]) == rising
        ]
        for rising in (True, False)
    )
    rising = [e for e in up if e.lag or row[e.target] - row[e.source] > 1]
    return max(
        loops + sum(e.source == name for e in rising),
        loops + sum(e.target == name for e in rising),
        sum(e.source == name for e in down),
        sum(e.target == name for e in down),
    )


def stub(k: int) -> float:
    """The distance from a node's middle at which its k-th edge on a side leaves it, from k = 1."""
    return 3 + STUB * k


def without_overlap(
    items: Sequence[_T], ends: Callable[[_T], tuple[float, float]]
) -> dict[_T, int]:
    """A level for each interval, so that those of one level do not overlap; touching is allowed."""
    taken: list[list[tuple[float, float]]] = []
    found: dict[_T, int] = {}
    for item in items:
        low, high = ends(item)
        free = (
            k
            for k, spans in enumerate(taken)
            if all(high <= other_low or other_high <= low for other_low, other_high in spans)
        )
        level = next(free, len(taken))
        if level == len(taken):
            taken.append([])
        taken[level].append((low, high))
        found[item] = level
    return found


def _rounded(points: Sequence[Point], radius: float = 7.0) -> str:
    """A path of straight pieces with round corners."""
    path = f"M {points[0][0]:.1f} {points[0][1]:.1f}"
    for before, corner, after in zip(points, points[1:], points[2:], strict=False):
        r = min(radius, math.dist(before, corner) / 2, math.dist(corner, after) / 2)
        (ax, ay), (bx, by) = (_towards(corner, end, r) for end in (before, after))
        path += f" L {ax:.1f} {ay:.1f} Q {corner[0]:.1f} {corner[1]:.1f} {bx:.1f} {by:.1f}"
    return f"{path} L {points[-1][0]:.1f} {points[-1][1]:.1f}"


def _towards(start: Point, aim: Point, distance: float) -> Point:
    share = distance / (math.dist(start, aim) or 1.0)
    return start[0] + share * (aim[0] - start[0]), start[1] + share * (aim[1] - start[1])


def border(centre: Point, aim: Point, half_width: float, half_height: float) -> Point:
    """The point where the way from a node's middle to an aim leaves the node."""
    dx, dy = aim[0] - centre[0], aim[1] - centre[1]
    share = min(half_width / abs(dx) if dx else math.inf, half_height / abs(dy) if dy else math.inf)
    return centre[0] + share * dx, centre[1] + share * dy


def css_class(name: str) -> str:
    """The CSS class of a measure."""
    return name.replace(" ", "-")


def lag_text(edge: Edge) -> str:
    """The label of a delayed edge."""
    return f"lag {edge.lag}"


def text_width(text: str, size: float) -> float:
    """The width of a text in pixels, rather too large than too small."""
    return 0.62 * size * cell_len(text)


def shortened(text: str, cells: int) -> str:
    """A text of at most so many cells; a longer one ends in an ellipsis."""
    return text if cell_len(text) <= cells else f"{set_cell_size(text, cells - 1).rstrip()}…"
