"""The graph of an architecture unfolded in time: a column for each step that is shown."""

import itertools
import math
from collections.abc import Sequence
from typing import final

from throughtime.reports.architecture_parts import (
    MARGIN,
    STUB,
    TRACK,
    Parts,
    Point,
    Rows,
    border,
    without_overlap,
)
from throughtime.wiring import Architecture, Edge
from throughtime.wiring.graph import INPUT, OUTPUT

_MOST_COLUMNS = 8


@final
class Unfolded:
    """The unfolded graph: which steps are shown, and the tracks of the edges between them.

    Attributes:
        tracks: number of level tracks in the gap above each row.
        remark: which edges are left out.
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
        """From the end of the source up or down to the track, along it, and into the target."""
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
