"""The graph of a step: elementwise values on pieces of units, products and reductions between them.

A piece is a run of units that all readers read as a whole. The elementwise values are nodes of a
`Builder`; each has a width, and one of width 1 counts for every unit of a wider one. What is no
elementwise value enters as a leaf: a part of the input, the state, a parameter, a product or a
reduction.
"""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import NamedTuple, final

from throughtime.engines.trace.builder import Builder, Value, as_kind
from throughtime.engines.trace.program import Key, Node


class Leaf(NamedTuple):
    """A run of values that are computed elsewhere.

    Attributes:
        source: "input", "state", "parameter", "product", "reduction", "cotangent" or "present".
        number: The number among those of the source.
        offset: The first value.
        width: The number of values.
    """

    source: str
    number: int
    offset: int
    width: int


class Piece(NamedTuple):
    """A run of units: a node, and the width; a node of width 1 may count for several units."""

    position: int
    width: int


@final
@dataclasses.dataclass(frozen=True)
class Product:
    """A product of a vector and a matrix.

    Attributes:
        inputs: The pieces of the vector, in order.
        weight: The number of the static matrix (depth, width); (width, depth) if `transposed`.
        transposed: If True, the matrix is transposed.
        width: The number of values of the product.
    """

    inputs: tuple[Piece, ...]
    weight: int
    transposed: bool
    width: int

    @property
    def depth(self) -> int:
        """The number of values of the vector."""
        return sum(piece.width for piece in self.inputs)


@final
@dataclasses.dataclass(frozen=True)
class Reduction:
    """One number of all units of a node.

    Attributes:
        operation: "sum", "max" or "peak" (a maximum without gradient).
        position: The node.
    """

    operation: str
    position: int


@final
class Graph:
    """A graph that grows.

    Attributes:
        builder: The nodes.
        leaves: The leaves by position.
        products: The products, in an order in which they can be computed.
        reductions: The reductions.
    """

    def __init__(self) -> None:
        self.builder = Builder()
        self.leaves: dict[int, Leaf] = {}
        self.products: list[Product] = []
        self.reductions: list[Reduction] = []
        self._widths: list[int] = []
        self._reduced: dict[Reduction, int] = {}

    @property
    def nodes(self) -> Sequence[Node]:
        """The nodes so far."""
        return self.builder.nodes

    def leaf(self, source: str, index: int, offset: int, width: int) -> int:
        """Return the position of a leaf."""
        position = self.builder.input(Key(source, f"{offset}+{width}", index))
        self.leaves[position] = Leaf(source, index, offset, width)
        return position

    def width(self, position: int) -> int:
        """Return the width of a node; 1 for a constant."""
        for i in range(len(self._widths), len(self.nodes)):
            node = self.nodes[i]
            leaf = self.leaves.get(i)
            own = 1 if leaf is None else leaf.width
            self._widths.append(max([own, *(self._widths[a] for a in node.arguments)]))
        return self._widths[position]

    def value(self, position: int) -> Value:
        """Return a node as a value that adds, multiplies and so on."""
        return Value(self.builder, position)

    def real(self, position: int) -> int:
        """Return a node as a real number."""
        return as_kind("real", self.value(position)).position

    def reduce(self, operation: str, position: int) -> int:
        """Return the leaf of a reduction."""
        reduction = Reduction(operation, position)
        if reduction not in self._reduced:
            self.reductions.append(reduction)
            self._reduced[reduction] = len(self.reductions) - 1
        return self.leaf("reduction", self._reduced[reduction], 0, 1)

    def product(self, product: Product) -> int:
        """Enter a product and return its number."""
        self.products.append(product)
        return len(self.products) - 1

    def reads(self, position: int) -> tuple[int, ...]:
        """Return the nodes from which a node is computed, through products and reductions too."""
        leaf = self.leaves.get(position)
        if leaf is None:
            return self.nodes[position].arguments
        if leaf.source == "product":
            return tuple(piece.position for piece in self.products[leaf.number].inputs)
        if leaf.source == "reduction":
            return (self.reductions[leaf.number].position,)
        return ()

    def ancestors(self, of: Iterable[int], stop: Iterable[int] = ()) -> set[int]:
        """Return nodes and all that they are computed from, but for what stopped nodes are."""
        stop, found, left = set(stop), set(), list(of)
        while left:
            position = left.pop()
            if position not in found:
                found.add(position)
                left += () if position in stop else self.reads(position)
        return found
