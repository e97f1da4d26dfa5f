"""The order of a step: phases of products, and between them loops over units of each row.

Phase 0 reads what is there; phase p + 1 begins with the products whose vectors phase p completes.
Within a phase, a loop after a reduction is a loop of its own. A value that another loop reads is
stored if it takes long to compute, and is computed again otherwise.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, final

from throughtime.engines.trace.steps.graph import Graph, Piece

PADDING = 16
"""Offsets of stored values are multiples of it: whole vectors, and lines of the cache."""

_CHEAP = frozenset(
    [
        *("add", "sub", "mul", "neg", "abs", "where", "lt", "le", "gt", "ge", "eq", "ne"),
        *("logical_not", "logical_and", "logical_or", "minimum", "maximum"),
    ]
)


class Place(NamedTuple):
    """A place of values in the memory of a row.

    Attributes:
        pointer: The name of a pointer of the row.
        offset: The first value behind it.
    """

    pointer: str
    offset: int


class Store(NamedTuple):
    """A value to be written: replaced, or, for a parameter's gradient, added to."""

    piece: Piece
    place: Place
    adds: bool = False


class Step(NamedTuple):
    """A product of a phase, with its number in the graph, its vector's place and its own."""

    number: int
    source: Place
    target: Place


class Loop(NamedTuple):
    """A place in the order: phase, number of reductions before, and width."""

    phase: int
    after: int
    width: int


def padded(width: int) -> int:
    """Return a width in whole vectors."""
    return -(-width // PADDING) * PADDING


@final
@dataclasses.dataclass
class Area:
    """Memory of a row behind one pointer, of which places are taken one after another."""

    pointer: str
    size: int = 0

    def take(self, width: int) -> Place:
        """Return the next place of so many values."""
        place = Place(self.pointer, self.size)
        self.size += padded(width)
        return place


@final
class Schedule:
    """The order of a pass over one step.

    Arguments:
        graph: The graph.
        known: The places of nodes that are there before.
        stores: The values to write.
        targets: The places of products that are not in the temporary memory, by number.
        sources: The places of products' vectors that `stores` writes, by number.
        area: The memory of the other products' vectors, where they do not lie side by side already.

    Attributes:
        steps: The products of each phase.
        stores: The values to write, with those that the schedule needs itself.
        places: The places of nodes that loops may load.
        sources: The places of all products' vectors, by number.
        temporary: The temporary memory of a row.
        phases: The number of phases.
    """

    def __init__(
        self,
        graph: Graph,
        known: Mapping[int, Place],
        stores: Iterable[Store],
        *,
        targets: Mapping[int, Place] | None = None,
        sources: Mapping[int, Place] | None = None,
        area: Area | None = None,
    ):
        self.graph, self.known = graph, dict(known)
        self.places: dict[int, Place] = dict(known)
        self.stores: list[Store] = list(stores)
        self.sources: dict[int, Place] = dict(sources or {})
        self.temporary = Area("temporary")
        self.steps: list[list[Step]] = []
        self._phase: dict[int, int] = {}
        self._after: dict[int, int] = {}
        needed = graph.ancestors([s.piece.position for s in self.stores], known)
        self._order(sorted(needed))
        for store in self.stores:
            position = store.piece.position
            if position in graph.leaves or store.adds:
                continue  # a product lies where it was computed
            if store.piece.width == graph.width(position):
                self.places.setdefault(position, store.place)
        self._place_products(area or self.temporary, targets or {})
        self.phases = 1 + max(self._phase.values(), default=0)
        self.steps += [[] for _ in range(self.phases - len(self.steps))]
        self._keep_what_others_read()

    def _leaf(self, position: int, source: str) -> int | None:
        """Return the number of the product or reduction of a node that this pass computes."""
        leaf = None if position in self.known else self.graph.leaves.get(position)
        return leaf.number if leaf is not None and leaf.source == source else None

    def _order(self, needed: list[int]) -> None:
        graph, left = self.graph, needed[::-1]
        while left:  # a node may come before one that it reads through a product
            position = left[-1]
            reads = () if position in self.known else graph.reads(position)
            missing = [r for r in reads if r not in self._phase]
            if missing and position not in self._phase:
                left += missing
                continue
            left.pop()
            phase = max([self._phase[r] for r in reads], default=0)
            after = max([self._after[r] for r in reads if self._phase[r] == phase], default=0)
            if self._leaf(position, "product") is not None:
                phase, after = phase + 1, 0
            elif self._leaf(position, "reduction") is not None:
                after += 1
            self._phase[position], self._after[position] = phase, after

    def home(self, position: int, width: int | None = None) -> Loop:
        """Return the loop in which a node is computed, or stored with another width."""
        wide = self.graph.width(position) if width is None else width
        return Loop(self._phase[position], self._after[position], wide)

    @property
    def reductions(self) -> dict[int, int]:
        """The leaves of the reductions of this pass, by number."""
        found = {self._leaf(i, "reduction"): i for i in self._phase}
        return {number: i for number, i in found.items() if number is not None}

    def _place_products(self, area: Area, targets: Mapping[int, Place]) -> None:
        graph = self.graph
        leaves: dict[int, list[int]] = {}
        for position in self._phase:
            number = self._leaf(position, "product")
            if number is not None:
                leaves.setdefault(number, []).append(position)
        for number, positions in sorted(leaves.items()):
            product, phase = graph.products[number], self._phase[positions[0]]
            source = self.sources.get(number) or self._found(product.inputs)
            self.sources[number] = source or self._gathered(product.inputs, area)
            target = targets.get(number) or self.temporary.take(product.width)
            self.steps += [[] for _ in range(phase + 1 - len(self.steps))]
            self.steps[phase].append(Step(number, self.sources[number], target))
            for position in positions:
                offset = target.offset + graph.leaves[position].offset
                self.places.setdefault(position, Place(target.pointer, offset))

    def _gathered(self, pieces: Sequence[Piece], area: Area) -> Place:
        """Return a new place of pieces side by side, to which they are written."""
        first = area.take(sum(piece.width for piece in pieces))
        offset = first.offset
        for piece in pieces:
            place = Place(first.pointer, offset)
            self.stores.append(Store(piece, place))
            if piece.width == self.graph.width(piece.position) and (
                piece.position not in self.graph.leaves
            ):
                self.places.setdefault(piece.position, place)
            offset += piece.width
        return first

    def _found(self, pieces: Sequence[Piece]) -> Place | None:
        """Return where pieces lie side by side already, until the gradient of a matrix is taken."""
        first = self.places.get(pieces[0].position)
        if first is None or not first.pointer.startswith(("input", "before", "after", "saved")):
            return None
        offset = first.offset
        for piece in pieces:
            whole = self.graph.width(piece.position) == piece.width
            if not whole or self.places.get(piece.position) != Place(first.pointer, offset):
                return None
            offset += piece.width
        return first

    def roots(self) -> dict[Loop, set[int]]:
        """Return the nodes that each loop stores or reduces."""
        found: dict[Loop, set[int]] = {}
        for store in self.stores:
            loop = self.home(store.piece.position, store.piece.width)
            found.setdefault(loop, set()).add(store.piece.position)
        for number in self.reductions:
            position = self.graph.reductions[number].position
            found.setdefault(self.home(position), set()).add(position)
        return dict(sorted(found.items()))

    def _keep_what_others_read(self) -> None:
        """Take a place for each value that a later loop reads and that takes long to compute."""
        graph, added = self.graph, dict[int, Store]()

        def keep(position: int) -> None:
            if position not in self.places:
                width = graph.width(position)
                self.places[position] = self.temporary.take(width)
                added[position] = Store(Piece(position, width), self.places[position])

        for loop, wanted in self.roots().items():
            left, seen = list(wanted), set[int]()
            while left:
                position = left.pop()
                if position in seen or position in self.known:
                    continue
                seen.add(position)
                home, node = self.home(position), graph.nodes[position]
                if position in graph.leaves:
                    if home.phase != loop.phase and self._leaf(position, "reduction") is not None:
                        keep(position)
                elif home.width == 1 or home == loop:
                    left += node.arguments
                elif position not in self.places:
                    if node.operation in _CHEAP or node.kind == "mask":
                        left += node.arguments
                    else:
                        keep(position)
        self.stores += added.values()
