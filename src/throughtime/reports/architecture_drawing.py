"""An architecture as pictures: its cyclic graph, and the same unfolded in time. SVG, by hand."""

import html
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import final

from throughtime.reports.lines import COLOURS
from throughtime.wiring import Architecture, Complexity, Edge
from throughtime.wiring.graph import INPUT, OUTPUT

_ROW, _COLUMN, _MARGIN, _RADIUS = 74, 132, 64, 19
_MOST_STEPS = 24
_KINDS = ("deepest cycle", "longest path", "fastest cycle")
_STYLE = """
text { font: 13px system-ui, sans-serif; fill: #1f2328; text-anchor: middle; }
.lag { font-size: 11px; fill: #5b5f66; }
.title { font-weight: 600; text-anchor: start; }
.key { text-anchor: start; }
path { fill: none; stroke: #8b9099; stroke-width: 1.4; }
path.delayed { stroke-dasharray: 5 4; }
circle { fill: white; stroke: #5b5f66; stroke-width: 1.4; }
circle.end { fill: #eef0f3; }
"""


def architecture_svg(architecture: Architecture, complexity: Complexity) -> str:
    """Both graphs in one picture, the witnesses of the measures in colour.

    Solid edges are of one step, dashed ones of an earlier one, with their lags. In the unfolded
    graph each column is a step; lags beyond 23 steps are left out of it, and it says so.

    Arguments:
        architecture: to be drawn.
        complexity: its measures.

    Returns:
        An SVG document.
    """
    places = _rows(architecture)
    shown_by = (complexity.deepest_cycle, complexity.longest_path, complexity.fastest_cycle)
    witnesses: dict[str, tuple[Edge, ...]] = dict(zip(_KINDS, shown_by, strict=True))
    cyclic = _Canvas()
    _draw_cyclic(cyclic, architecture, places, witnesses)
    unfolded = _Canvas()
    _draw_unfolded(unfolded, architecture, places, witnesses)
    height = _MARGIN + max(cyclic.height, unfolded.height) + 30
    left = cyclic.width + 40
    width = left + unfolded.width
    key = [
        f'<path d="M {20 + 190 * k} {height - 18} h 34" style="stroke: {COLOURS[k]}; '
        f'stroke-width: 3"/><text class="key" x="{60 + 190 * k}" y="{height - 13}">{name}</text>'
        for k, name in enumerate(_KINDS)
    ]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height + 10:.0f}" '
        f'width="{width:.0f}" height="{height + 10:.0f}" role="img">\n'
        f"<title>{html.escape(architecture.name)}</title>\n<style>{_STYLE}</style>\n"
        '<rect width="100%" height="100%" fill="white"/>\n<defs>'
        + "".join(_arrow(name, paint) for name, paint in _paints().items())
        + "</defs>\n"
        f'<text class="title" x="20" y="28">{html.escape(architecture.name)}: cyclic graph</text>\n'
        f'<text class="title" x="{left + 20:.0f}" y="28">unfolded in time{unfolded.remark}</text>\n'
        f'<g transform="translate(0 {_MARGIN})">{"".join(cyclic.parts)}</g>\n'
        f'<g transform="translate({left:.0f} {_MARGIN})">{"".join(unfolded.parts)}</g>\n'
        + "\n".join(key)
        + "\n</svg>\n"
    )


@final
class _Canvas:
    """Parts of a picture, and how large they are."""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.width = self.height = 0.0
        self.remark = ""

    def node(self, x: float, y: float, name: str, end: bool) -> None:
        shown = name if len(name) <= 7 else f"{name[:6]}…"
        size = 11 if len(shown) > 4 else 13
        self.parts.append(
            f'<circle class="{"end" if end else ""}" cx="{x:.1f}" cy="{y:.1f}" r="{_RADIUS}">'
            f"<title>{html.escape(name)}</title></circle>"
            f'<text x="{x:.1f}" y="{y + 4:.1f}" style="font-size: {size}px">'
            f"{html.escape(shown)}</text>"
        )
        self.width = max(self.width, x + _MARGIN)
        self.height = max(self.height, y + _MARGIN)

    def edge(
        self,
        start: tuple[float, float],
        end: tuple[float, float],
        bend: float,
        paints: Sequence[str],
        *,
        delayed: bool,
        label: str = "",
    ) -> None:
        """From circle to circle, bent to the left of its way; a loop where both are one."""
        kind = ' class="delayed"' if delayed else ""
        (x0, y0), (x1, y1) = start, end
        if start == end:
            r = _RADIUS
            reach = r + 44 + abs(bend)
            path = (
                f"M {x0 + r * 0.8:.1f} {y0 - r * 0.6:.1f} "
                f"C {x0 + reach:.1f} {y0 - reach * 0.7:.1f} {x0 + reach:.1f} "
                f"{y0 + reach * 0.7:.1f} {x0 + r * 0.85:.1f} {y0 + r * 0.65:.1f}"
            )
            at = (x0 + 0.76 * reach + 26, y0 + 4)
            self.width = max(self.width, x0 + reach + 60)
        else:
            length = math.hypot(x1 - x0, y1 - y0)
            ux, uy = (x1 - x0) / length, (y1 - y0) / length
            mx, my = (x0 + x1) / 2 + uy * bend, (y0 + y1) / 2 - ux * bend
            a, b = _towards(start, (mx, my), _RADIUS), _towards(end, (mx, my), _RADIUS + 5)
            path = f"M {a[0]:.1f} {a[1]:.1f} Q {mx:.1f} {my:.1f} {b[0]:.1f} {b[1]:.1f}"
            at = ((a[0] + 2 * mx + b[0]) / 4, (a[1] + 2 * my + b[1]) / 4 - 4)
            self.width = max(self.width, mx + 30)
        # an edge of several witnesses has their colours side by side
        for k, paint in reversed(list(enumerate(paints))):
            style = f' style="stroke: {_paints()[paint]}; stroke-width: {3 + 5 * k}"'
            head = f' marker-end="url(#{_id(paint)})"' if k == 0 else ""
            self.parts.append(f'<path d="{path}"{kind if k == 0 else ""}{style}{head}/>')
        if not paints:
            self.parts.append(f'<path d="{path}"{kind} marker-end="url(#plain)"/>')
        if label:
            self.parts.append(f'<text class="lag" x="{at[0]:.1f}" y="{at[1]:.1f}">{label}</text>')


def _draw_cyclic(
    canvas: _Canvas,
    architecture: Architecture,
    rows: dict[str, int],
    witnesses: dict[str, tuple[Edge, ...]],
) -> None:
    top = max(rows.values())
    back = max((rows[e.source] - rows[e.target] for e in architecture.edges), default=0)
    x = _MARGIN + 20.0 + 0.5 * _bend(max(back, 0))
    place = {node: (x, (top - row) * _ROW + 20.0) for node, row in rows.items()}
    seen: Counter[tuple[str, str]] = Counter()
    for edge in architecture.edges:
        pair = (edge.source, edge.target)
        seen[pair] += 1
        span = rows[edge.target] - rows[edge.source]
        # neighbours by a straight line; what goes back on the left, what goes further on the right
        straight = span == 1 and edge.lag == 0
        bend = 0.0 if straight else -_bend(abs(span)) - 26.0 * (seen[pair] - 1)
        if span == 0:
            bend = 26.0 * (seen[pair] - 1)
        label = f"lag {edge.lag}" if edge.lag else ""
        canvas.edge(
            place[edge.source],
            place[edge.target],
            bend,
            _paints_of(edge, witnesses),
            delayed=edge.lag > 0,
            label=label,
        )
    for node, (x, y) in place.items():
        canvas.node(x, y, node, node in (INPUT, OUTPUT))


def _draw_unfolded(
    canvas: _Canvas,
    architecture: Architecture,
    rows: dict[str, int],
    witnesses: dict[str, tuple[Edge, ...]],
) -> None:
    longest = max(edge.lag for edge in architecture.edges)
    steps = min(max(4, longest + 1), _MOST_STEPS)
    left_out = [edge for edge in architecture.edges if edge.lag >= steps]
    if left_out:
        canvas.remark = f" (without {', '.join(html.escape(str(edge)) for edge in left_out)})"
    top = max(rows.values())
    wide = _COLUMN if steps <= 8 else 92

    def place(node: str, t: int) -> tuple[float, float]:
        return _MARGIN + t * wide, (top - rows[node]) * _ROW + 20.0

    for t in range(steps):
        for edge in architecture.edges:
            if t - edge.lag < 0:
                continue
            span = rows[edge.target] - rows[edge.source]
            far = edge.lag > 1 or (edge.lag == 0 and span > 1)
            canvas.edge(
                place(edge.source, t - edge.lag),
                place(edge.target, t),
                (18.0 + 7.0 * edge.lag) if far else 0.0,
                _paints_of(edge, witnesses),
                delayed=edge.lag > 0,
            )
    for t in range(steps):
        for node in rows:
            canvas.node(*place(node, t), node, node in (INPUT, OUTPUT))
        back = steps - 1 - t
        x, y = _MARGIN + t * wide, (top + 1) * _ROW - 12.0
        label = "t" if back == 0 else f"t-{back}"
        canvas.parts.append(f'<text class="lag" x="{x:.1f}" y="{y:.1f}">{label}</text>')


def _rows(architecture: Architecture) -> dict[str, int]:
    """A row for each node, in the order in which it is computed within a step."""
    order = (INPUT, *architecture.states, OUTPUT)
    return {node: row for row, node in enumerate(order)}


def _bend(span: int) -> float:
    return 44.0 * span**0.7 if span else 0.0


def _paints_of(edge: Edge, witnesses: dict[str, tuple[Edge, ...]]) -> list[str]:
    return [name for name in _KINDS if edge in witnesses[name]]


def _paints() -> dict[str, str]:
    return {"plain": "#8b9099", **dict(zip(_KINDS, COLOURS, strict=False))}


def _arrow(name: str, paint: str) -> str:
    return (
        f'<marker id="{_id(name)}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" '
        f'markerHeight="8" markerUnits="userSpaceOnUse" orient="auto"><path d="M 0 0.5 L 8 4 L 0 '
        f'7.5 z" style="fill: {paint}; stroke: none"/></marker>'
    )


def _id(name: str) -> str:
    return name.replace(" ", "-")


def _towards(
    start: tuple[float, float], aim: tuple[float, float], distance: float
) -> tuple[float, float]:
    length = math.hypot(aim[0] - start[0], aim[1] - start[1]) or 1.0
    share = distance / length
    return start[0] + share * (aim[0] - start[0]), start[1] + share * (aim[1] - start[1])


def in_words(edges: Iterable[Edge]) -> str:
    """A cycle or path as a line: h1 -> h2 -> h1 (lag 1).

    Arguments:
        edges: each from where the one before ends.
    """
    parts: list[str] = []
    for edge in edges:
        if not parts:
            parts.append(edge.source)
        parts.append(edge.target + (f" (lag {edge.lag})" if edge.lag else ""))
    return " -> ".join(parts)
