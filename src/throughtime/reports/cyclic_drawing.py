"""The cyclic graph of an architecture: its nodes in a column, its edges on tracks beside them."""

from collections.abc import Sequence

from throughtime.reports.architecture_parts import (
    MARGIN,
    Parts,
    Rows,
    lag_text,
    stub,
    text_width,
    without_overlap,
)
from throughtime.wiring import Architecture, Edge


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
