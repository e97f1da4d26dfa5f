"""Recorded vectors as a graph: each vector cut to pieces that all its readers read as a whole."""

import bisect
import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple, final

import numpy as np

from throughtime.engines.trace.builder import Value, call
from throughtime.engines.trace.formulas import RULES
from throughtime.engines.trace.program import UntraceableError
from throughtime.engines.trace.steps.graph import Graph, Piece, Product
from throughtime.engines.trace.steps.recorder import Given, Map, Vector
from throughtime.engines.trace.steps.recorder import Product as RecordedProduct
from throughtime.engines.trace.steps.recorder import Reduction as RecordedReduction
from throughtime.engines.trace.steps.views import VECTOR

_MOST_RUNS = 64
_MOST_PIECES = 400


class Run(NamedTuple):
    """Values [start, start + width) of a reader: those of a vector from an offset on, or one."""

    start: int
    width: int
    vector: int
    offset: int
    repeated: bool


def runs(places: np.ndarray) -> list[Run]:
    """Return the runs of an array of places.

    Raises:
        UntraceableError: There are too many.
    """
    count = len(places)
    if count == 0:
        return []
    steps = np.diff(places)
    changes = np.flatnonzero(steps[1:] != steps[:-1]) + 1
    found: list[Run] = []
    start = 0
    while start < count:
        end, repeated = start + 1, False
        if start < count - 1 and steps[start] in (0, 1):
            after = np.searchsorted(changes, start, side="right")
            end = int(changes[after]) + 1 if after < len(changes) else count
            repeated = steps[start] == 0
        vector, offset = divmod(int(places[start]), VECTOR)
        found.append(Run(start, end - start, vector, offset, bool(repeated)))
        if len(found) > _MOST_RUNS:
            raise UntraceableError("step rearranges units one by one")
        start = end
    return found


def _operands(vector: Vector) -> list[np.ndarray]:
    if isinstance(vector, Map):
        return [o for o in vector.operands if isinstance(o, np.ndarray)]
    return [] if isinstance(vector, Given) else [vector.places]


@final
@dataclasses.dataclass
class Lowered:
    """A step as a graph.

    Attributes:
        graph: The graph.
        results: The pieces of each result.
    """

    graph: Graph
    results: list[tuple[Piece, ...]]


def lower(vectors: Sequence[Vector], results: Sequence[np.ndarray]) -> Lowered:
    """Return the graph of recorded vectors.

    Arguments:
        vectors: The vectors, in order.
        results: The places of each result, flat.
    """
    return _Lowering(vectors, results).lowered()


@final
class _Lowering:
    def __init__(self, vectors: Sequence[Vector], results: Sequence[np.ndarray]):
        self.vectors = vectors
        needed = self._needed(results)
        self.order = sorted(needed)
        self.runs = {v: [runs(o) for o in _operands(vectors[v])] for v in self.order}
        self.result_runs = [runs(r) for r in results]
        self.cuts: dict[int, list[int]] = {v: [0, vectors[v].width] for v in self.order}
        self.graph = Graph()
        self.at: dict[tuple[int, int], int] = {}

    def _needed(self, results: Sequence[np.ndarray]) -> set[int]:
        found: set[int] = set()
        left = [int(v) for r in results for v in np.unique(r // VECTOR)]
        while left:
            vector = left.pop()
            if vector not in found:
                found.add(vector)
                for operand in _operands(self.vectors[vector]):
                    left += [int(v) for v in np.unique(operand // VECTOR)]
        return found

    def lowered(self) -> Lowered:
        """Cut, and build the graph."""
        self._cut()
        for v in self.order:
            self._build(v)
        return Lowered(self.graph, [tuple(self._pieces(found)) for found in self.result_runs])

    def _add(self, vector: int, place: int) -> bool:
        cuts = self.cuts[vector]
        i = bisect.bisect_left(cuts, place)
        if cuts[i] == place:
            return False
        cuts.insert(i, place)
        if sum(map(len, self.cuts.values())) > 2 * len(self.cuts) + _MOST_PIECES:
            raise UntraceableError("step cuts its units into too many parts")
        return True

    def _cut(self) -> None:
        """Cut until every run of every reader consists of whole pieces, and so does the reader."""
        changed = True
        while changed:
            changed = False
            for found in self.result_runs:
                changed |= self._cut_sources(found)
            for v in reversed(self.order):
                for found in self.runs[v]:
                    changed |= self._cut_sources(found)
                    if isinstance(self.vectors[v], Map):
                        changed |= self._cut_together(v, found)

    def _cut_sources(self, found: list[Run]) -> bool:
        changed = False
        for run in found:
            width = 1 if run.repeated else run.width
            changed |= self._add(run.vector, run.offset)
            changed |= self._add(run.vector, run.offset + width)
        return changed

    def _cut_together(self, v: int, found: list[Run]) -> bool:
        """Cut a vector where its operand is cut, and the operand where the vector is."""
        changed = False
        for run in found:
            changed |= self._add(v, run.start) | self._add(v, run.start + run.width)
            if run.repeated:
                continue
            shift = run.offset - run.start
            for cut in [*self.cuts[run.vector]]:
                if run.offset < cut < run.offset + run.width:
                    changed |= self._add(v, cut - shift)
            for cut in [*self.cuts[v]]:
                if run.start < cut < run.start + run.width:
                    changed |= self._add(run.vector, cut + shift)
        return changed

    def _bounds(self, vector: int) -> list[tuple[int, int]]:
        cuts = self.cuts[vector]
        return list(itertools.pairwise(cuts))

    def _pieces(self, found: list[Run]) -> list[Piece]:
        """Return runs as pieces of real numbers."""
        pieces: list[Piece] = []
        for run in found:
            if run.repeated:
                pieces.append(Piece(self.graph.real(self.at[run.vector, run.offset]), run.width))
                continue
            for start, end in self._bounds(run.vector):
                if run.offset <= start < run.offset + run.width:
                    position = self.graph.real(self.at[run.vector, start])
                    pieces.append(Piece(position, end - start))
        return pieces

    def _build(self, v: int) -> None:
        vector, graph = self.vectors[v], self.graph
        if isinstance(vector, Given) and vector.source == "constant":
            self.at[v, 0] = graph.builder.constant(vector.value)
        elif isinstance(vector, Given):
            for start, end in self._bounds(v):
                position = graph.leaf(vector.source, vector.index, start, end - start)
                self.at[v, start] = position
        elif isinstance(vector, Map):
            for start, end in self._bounds(v):
                self.at[v, start] = self._mapped(v, vector, start, end)
        elif isinstance(vector, RecordedProduct):
            pieces = tuple(self._pieces(self.runs[v][0]))
            number = graph.product(Product(pieces, vector.weight, vector.transposed, vector.width))
            for start, end in self._bounds(v):
                self.at[v, start] = graph.leaf("product", number, start, end - start)
        else:
            self.at[v, 0] = self._reduced(vector, self.runs[v][0])

    def _mapped(self, v: int, vector: Map, start: int, end: int) -> int:
        operands: list[Any] = []
        found = iter(self.runs[v])
        for operand in vector.operands:
            if not isinstance(operand, np.ndarray):
                operands.append(operand)
                continue
            run = next(r for r in next(found) if r.start <= start < r.start + r.width)
            offset = run.offset if run.repeated else run.offset + start - run.start
            operands.append(self.graph.value(self.at[run.vector, offset]))
        known = [o for o in operands if isinstance(o, Value)]
        assert known, "a recorded operation reads a vector"
        try:
            made = RULES[vector.name](*operands, **vector.options)
        except (NotImplementedError, TypeError) as error:
            raise UntraceableError(f"step uses {vector.name} in a form not in the list") from error
        return (made[vector.result] if isinstance(made, tuple) else made).position

    def _reduced(self, vector: RecordedReduction, found: list[Run]) -> int:
        pieces = self._pieces(found)
        if vector.operation == "sum":
            return self._sum(pieces)
        if vector.operation == "peak" and len(pieces) > 1:
            raise UntraceableError("step has a softmax over separate parts")
        return self._most(vector.operation, pieces)

    def _sum(self, pieces: list[Piece]) -> int:
        graph, total = self.graph, None
        for piece in self._added(pieces):
            part = graph.value(piece.position)
            if graph.width(piece.position) > 1:
                part = graph.value(graph.reduce("sum", piece.position))
            else:
                part = part * piece.width
            total = part if total is None else total + part
        assert total is not None
        return total.position

    def _most(self, operation: str, pieces: list[Piece]) -> int:
        """Return the maximum of pieces; where several numbers equal it, all have a gradient."""
        graph, total, count = self.graph, None, None
        for piece in pieces:
            part, equal = graph.value(piece.position), float(piece.width)
            if graph.width(piece.position) > 1:
                values, part = part, graph.value(graph.reduce(operation, piece.position))
                if len(pieces) > 1:
                    share = call("where", call("eq", values, part), 1.0, 0.0)
                    equal = graph.value(graph.reduce("sum", share.position))
            if total is None:
                total, count = part, equal
            else:
                total, count = RULES["larger"](total, count, part, equal)
        assert total is not None
        return total.position

    def _added(self, pieces: list[Piece]) -> list[Piece]:
        """Return one piece for all those of one width: their sum, to be reduced once."""
        graph, found = self.graph, dict[int, Value]()
        rest: list[Piece] = []
        for piece in pieces:
            if graph.width(piece.position) == 1:
                rest.append(piece)
                continue
            value, before = graph.value(piece.position), found.get(piece.width)
            found[piece.width] = value if before is None else before + value
        return [*rest, *(Piece(value.position, width) for width, value in found.items())]
