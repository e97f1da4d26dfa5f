"""An architecture as one SVG: its cyclic graph, and the same graph unfolded in time.

Edges run straight between neighbours, and otherwise on tracks: upright ones beside the cyclic
graph, level ones between the rows of the unfolded graph. Labels stand where no track and no stub of
a track can be, so that no edge crosses a label.
"""

import html
import itertools
import math
from collections.abc import Iterable, Sequence
from typing import final

from throughtime.core.escaping import escaped
from throughtime.reports.architecture_parts import (
    MARGIN,
    STUB,
    TRACK,
    Parts,
    Point,
    Rows,
    border,
    css_class,
    lag_text,
    shortened,
    stub,
    text_width,
    without_overlap,
)
from throughtime.reports.lines import COLOURS
from throughtime.wiring import Architecture, Complexity, Edge
from throughtime.wiring.graph import INPUT, OUTPUT

_WITNESSES = ("deepest cycle", "longest path", "fastest cycle")
_DARK = ("#56b4e9", "#ff8a3c", "#2cc79a")
_TITLE_CELLS = 60


def architecture_svg(architecture: Architecture, complexity: Complexity) -> str:
    """Both graphs in one picture, the witnesses of the measures in colour.

    Solid edges are of one step, dashed ones of an earlier one, with their lags. In the unfolded
    graph each column is a step. Steps between the lags are left out where there are many of them;
    so are lags beyond eight columns, and the picture names these.
    """
    witnesses = (complexity.deepest_cycle, complexity.longest_path, complexity.fastest_cycle)
    paints = {
        edge: [name for name, shown in zip(_WITNESSES, witnesses, strict=True) if edge in shown]
        for edge in architecture.edges
    }
    unfolded = Unfolded(architecture)
    rows = Rows(architecture, unfolded.tracks)
    parts, key = Parts(paints), Parts(paints)
    cyclic_width = draw_cyclic(parts, architecture, rows)
    parts.translate(0, 84)
    left = cyclic_width + 2 * MARGIN
    right = Parts(paints)
    unfolded_width = unfolded.draw(right, rows)
    right.translate(left, 84)
    bottom = 84 + rows.height + 52
    whole = escaped(architecture.name)
    name = html.escape(shortened(whole, _TITLE_CELLS))
    heading = f"unfolded in time{unfolded.remark}"
    width = max(
        left + unfolded_width,
        left + text_width(heading, 13) + MARGIN,
        text_width(name, 13) + 2 * MARGIN,
        _draw_key(key, bottom),
    )
    height = bottom + 28
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" '
        f'width="{width:.0f}" height="{height:.0f}" style="max-width: 100%; height: auto" '
        f'role="img">\n<title>{html.escape(whole)}</title>\n'
        f"<style>\n{_style()}</style>\n"
        f'<rect class="page" width="{width:.0f}" height="{height:.0f}"/>\n'
        f"<defs>{_arrow('plain')}{''.join(map(_arrow, _WITNESSES))}</defs>\n"
        f'<text class="title start" x="{MARGIN:.0f}" y="30">{name}</text>\n'
        f'<text class="lag start" x="{MARGIN:.0f}" y="54">cyclic graph</text>\n'
        f'<text class="lag start" x="{left + MARGIN:.0f}" y="54">{html.escape(heading)}</text>\n'
        f"{parts.text()}{right.text()}{key.text()}</svg>\n"
    )


def _style() -> str:
    def theme(page: str, text: str, muted: str, edge: str, end: str, paints: Sequence[str]) -> str:
        painted = "".join(
            f"path.{css_class(name)} {{ stroke: {paint}; }}\n"
            f"marker path.{css_class(name)} {{ fill: {paint}; }}\n"
            for name, paint in zip(_WITNESSES, paints, strict=True)
        )
        return (
            f".page, .node {{ fill: {page}; }} text {{ fill: {text}; }} .lag {{ fill: {muted}; }}\n"
            f".node {{ stroke: {muted}; }} .end {{ fill: {end}; }}\n"
            f"path {{ stroke: {edge}; }} marker path {{ fill: {edge}; }}\n{painted}"
        )

    dark = theme("#14171a", "#e8eaed", "#a3acb5", "#7f8791", "#2b3035", _DARK)
    return (
        "text { font: 13px system-ui, sans-serif; text-anchor: middle; }\n"
        ".lag { font-size: 11px; }\n"
        ".title { font-weight: 600; }\n"
        ".start { text-anchor: start; } .stop { text-anchor: end; }\n"
        "path { fill: none; stroke-width: 1.4; } marker path { stroke: none !important; }\n"
        ".delayed { stroke-dasharray: 5 4; }\n"
        + theme("#ffffff", "#1f2328", "#5b5f66", "#8b9099", "#eef0f3", COLOURS[:3])
        + f"@media (prefers-color-scheme: dark) {{\n{dark}}}\n"
        "@media print { .page { fill: none; } }\n"
    )


def _draw_key(key: Parts, y: float) -> float:
    """Draw the key of colours and dashes; return its width."""
    x = MARGIN
    entries = [(css_class(name), 3.0, name) for name in _WITNESSES]
    for kind, thick, text in (*entries, ("plain delayed", 1.4, "from an earlier step")):
        key.line([(x, y), (x + 34, y)], kind, thick)
        key.label(x + 42, y, text, "lag start")
        x += 42 + text_width(text, 11) + 24
    return x


def _arrow(name: str) -> str:
    return (
        f'<marker id="{css_class(name)}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" '
        f'markerHeight="8" markerUnits="userSpaceOnUse" orient="auto">'
        f'<path class="{css_class(name)}" d="M 0 0.5 L 8 4 L 0 7.5 z"/></marker>'
    )


def in_words(edges: Iterable[Edge]) -> str:
    """A cycle or path as a line: h1 -> h2 -> h1 (lag 1)."""
    parts: list[str] = []
    for edge in edges:
        if not parts:
            parts.append(edge.source)
        parts.append(edge.target + (f" (lag {edge.lag})" if edge.lag else ""))
    return " -> ".join(parts)


def draw_cyclic(parts: Parts, architecture: Architecture, rows: Rows) -> float:
    """Draw the cyclic graph.

    An edge to the next row is straight. Self-loops and edges upwards are on the right, edges
    downwards on the left. The label of a track stands beside it: of a loop at the height of the
    node, between the stubs of the loops around it; of another edge in a gap between rows, where
    there are no stubs.

    Returns:
        The width of the graph in pixels.
    """
    loops: dict[str, list[Edge]] = {name: [] for name in rows.order}
    rising: list[Edge] = []
    falling: list[Edge] = []
    straight: list[Edge] = []
    for edge in architecture.edges:
        span = rows.row[edge.target] - rows.row[edge.source]
        if span == 0:
            loops[edge.source].append(edge)
        elif span == 1 and edge.lag == 0:
            straight.append(edge)
        else:
            (rising if span > 0 else falling).append(edge)
    first = rows.width / 2 + 20
    left, on_left = _upright_tracks(falling, rows, first)
    x = MARGIN + max(on_left, rows.width / 2)
    for edge in straight:
        start, end = rows.y[edge.source], rows.y[edge.target]
        ends = (x, start - rows.half[edge.source]), (x, end + rows.half[edge.target])
        parts.edge(edge, ends)
    reach = first
    for name, own in loops.items():
        at = first
        for k, edge in enumerate(sorted(own, key=lambda e: e.lag), 1):
            y, side = rows.y[name], x + rows.width / 2
            up, down = y - stub(k), y + stub(k)
            parts.edge(edge, [(side, up), (x + at, up), (x + at, down), (side, down)])
            parts.label(x + at + 9, y, lag_text(edge), "lag start")
            at += 9 + text_width(lag_text(edge), 11) + 12
        reach = max(reach, at)
    right, on_right = _upright_tracks(rising, rows, reach)
    for tracks, sign, kind in ((left, -1, "lag stop"), (right, 1, "lag start")):
        for edge, at in tracks.items():
            leave, arrive = (
                1 + _rank(edge, tracks, end) + (len(loops[getattr(edge, end)]) if sign > 0 else 0)
                for end in ("source", "target")
            )
            leave = rows.y[edge.source] - sign * stub(leave)
            arrive = rows.y[edge.target] + sign * stub(arrive)
            side, track = x + sign * rows.width / 2, x + sign * at
            parts.edge(edge, [(side, leave), (track, leave), (track, arrive), (side, arrive)])
            if edge.lag:
                lower = min(rows.row[edge.source], rows.row[edge.target])
                low, high = rows.order[lower], rows.order[lower + 1]
                bottom, top = rows.y[low] - rows.half[low], rows.y[high] + rows.half[high]
                parts.label(track + sign * 9, (bottom + top) / 2, lag_text(edge), kind)
    for name in rows.order:
        parts.node(x, rows.y[name], rows.width, rows.half[name], name)
    return x + max(on_right, reach, rows.width / 2)


def _rank(edge: Edge, tracks: dict[Edge, float], end: str) -> int:
    """The place of an edge among those that share its source or target: the outermost is 0."""
    sharing = [e for e in tracks if getattr(e, end) == getattr(edge, end)]
    return sorted(sharing, key=lambda e: (-tracks[e], e)).index(edge)


def _upright_tracks(
    edges: Sequence[Edge], rows: Rows, first: float
) -> tuple[dict[Edge, float], float]:
    """A distance from the middle for each edge, short edges innermost; and where tracks end."""

    def ends(edge: Edge) -> tuple[float, float]:
        low, high = sorted((rows.row[edge.source], rows.row[edge.target]))
        return low, high

    ordered = sorted(edges, key=lambda e: (abs(rows.row[e.source] - rows.row[e.target]), e.lag))
    levels = without_overlap(ordered, ends)
    tracks: dict[Edge, float] = {}
    at = first
    for level in range(1 + max(levels.values(), default=-1)):
        own = [edge for edge in edges if levels[edge] == level]
        tracks |= dict.fromkeys(own, at)
        at += 12 + max(9 + text_width(lag_text(edge), 11) if edge.lag else 0.0 for edge in own)
    return tracks, at


_MOST_COLUMNS = 8


@final
class Unfolded:
    """The unfolded graph: which steps are shown, and the tracks of the edges between them.

    Attributes:
        tracks: number of level tracks in the gap above each row.
        remark: The edges that are left out, in words.
    """

    def __init__(self, architecture: Architecture):
        self._order = (INPUT, *architecture.states, OUTPUT)
        self._row = {name: k for k, name in enumerate(self._order)}
        lags = sorted({edge.lag for edge in architecture.edges})
        self._back = _shown_steps(lags)  # steps before t, the longest ago first
        column = {back: k for k, back in enumerate(self._back)}
        self._instances = [
            (edge, column[back + edge.lag], column[back])
            for back in self._back
            for edge in architecture.edges
            if back + edge.lag in column
        ]
        shown = {edge for edge, _, _ in self._instances}
        left_out = [str(edge) for edge in architecture.edges if edge not in shown]
        more = f" and {len(left_out) - 3} more" if len(left_out) > 3 else ""
        self.remark = f" (without {', '.join(left_out[:3])}{more})" if left_out else ""
        routed = [one for one in self._instances if self._route(*one) == "level"]
        self._levels: dict[tuple[Edge, int, int], int] = {}
        self.tracks = [0] * len(self._order)
        for gap in range(len(self._order) - 1):
            here = [one for one in routed if self._gap(one[0]) == gap]
            levels = without_overlap(
                sorted(here, key=lambda one: one[2] - one[1]), lambda one: one[1:]
            )
            self._levels |= levels
            self.tracks[gap] = 1 + max(levels.values(), default=-1)

    def _span(self, edge: Edge) -> int:
        return self._row[edge.target] - self._row[edge.source]

    def _gap(self, edge: Edge) -> int:
        """The gap, by the row below it, in which the track of an edge lies."""
        return self._row[edge.source] - (self._span(edge) < 0)

    def _route(self, edge: Edge, first: int, last: int) -> str:
        """Straight to a neighbour, upright beside the column, or level in a gap."""
        span = self._span(edge)
        if edge.lag == 0:
            return "straight" if span == 1 else "upright"
        near = edge.lag == 1 and last == first + 1 and abs(span) <= 1
        return "straight" if near else "level"

    def draw(self, parts: Parts, rows: Rows) -> float:
        """Draw the graph; return its width in pixels."""
        kinds = list(dict.fromkeys(edge for edge, _, _ in self._instances))
        upright = [e for e in kinds if e.lag == 0 and self._span(e) > 1]
        far = [e for e in kinds if e.lag and abs(self._span(e)) > 1]
        pitch = rows.width + 60 + STUB * (len(upright) + len(far))
        wide = [pitch if a - b == 1 else pitch + 24 for a, b in itertools.pairwise(self._back)]
        x = [MARGIN + rows.width / 2 + sum(wide[:k]) for k in range(len(self._back))]
        side = rows.width / 2
        for edge, first, last in self._instances:
            source, target = (x[first], rows.y[edge.source]), (x[last], rows.y[edge.target])
            halves = rows.half[edge.source], rows.half[edge.target]
            route = self._route(edge, first, last)
            if route == "straight":
                ends = (
                    border(source, target, side, halves[0]),
                    border(target, source, side, halves[1]),
                )
                parts.edge(edge, ends)
            elif route == "upright":
                k = 1 + upright.index(edge)
                track = source[0] + side + 12 + STUB * k
                leave, arrive = source[1] - 2 * k, target[1] + 2 * k
                parts.edge(
                    edge,
                    [
                        (source[0] + side, leave),
                        (track, leave),
                        (track, arrive),
                        (target[0] + side, arrive),
                    ],
                )
            else:
                parts.edge(edge, self._level((edge, first, last), kinds, far, x, rows))
        for k, back in enumerate(self._back):
            for name in self._order:
                parts.node(x[k], rows.y[name], rows.width, rows.half[name], name)
            parts.label(x[k], rows.height + 18, f"t-{back}" if back else "t")
        for k, (a, b) in enumerate(itertools.pairwise(self._back)):
            for name in self._order if a - b > 1 else ():
                parts.label((x[k] + x[k + 1]) / 2, rows.y[name], "⋯")
        return x[-1] + side + MARGIN + STUB * len(upright) + 12

    def _level(
        self,
        instance: tuple[Edge, int, int],
        kinds: Sequence[Edge],
        far: Sequence[Edge],
        x: Sequence[float],
        rows: Rows,
    ) -> list[Point]:
        """Return the points from the source up or down to the track, along it, to the target."""
        edge, first, last = instance
        span, gap, side = self._span(edge), self._gap(edge), rows.width / 2
        below = self._order[gap]
        track = rows.y[below] - rows.half[below] - 20 - TRACK * self._levels[instance]
        apart = min(STUB, (side - 12) / len(kinds))
        inset = side - 8 - apart * kinds.index(edge)
        leave = (
            x[first] + inset,
            rows.y[edge.source] + math.copysign(rows.half[edge.source], -1 if span >= 0 else 1),
        )
        points = [leave, (leave[0], track)]
        if abs(span) > 1:
            k = far.index(edge)
            beside, at = x[last] - side - 16 - STUB * k, rows.y[edge.target] + 2 * k
            return [*points, (beside, track), (beside, at), (x[last] - side, at)]
        arrive = x[last] - inset
        edge_of = rows.half[edge.target] * (1 if span == 1 else -1)
        return [*points, (arrive, track), (arrive, rows.y[edge.target] + edge_of)]


def _shown_steps(lags: Sequence[int]) -> list[int]:
    """Steps before t that are shown, the longest ago first: all of few, or those of the lags."""
    longest = max(lags)
    if longest <= 4:
        return list(range(max(3, longest), -1, -1))
    chosen = {0, 1, longest, longest - 1}
    for lag in lags:  # the shortest first
        if len(chosen) < _MOST_COLUMNS:
            chosen.add(lag)
    return sorted(chosen, reverse=True)
