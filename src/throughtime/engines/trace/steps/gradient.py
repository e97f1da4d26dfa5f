"""The vector-Jacobian product of a step, derived from its graph into the same graph."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import final

from throughtime.engines.trace.builder import Value, call
from throughtime.engines.trace.steps.graph import Graph, Piece, Product


@final
@dataclasses.dataclass(frozen=True)
class Gradients:
    """The gradients of a step; None for a leaf whose gradient is zero.

    Attributes:
        leaves: The gradients of the input, the state and the parameters, by position of the leaf.
        products: The gradient of each product that has one, as pieces, by its number.
        results: The results on whose gradients that of a leaf depends, as bits, by position.
    """

    leaves: dict[int, int]
    products: dict[int, tuple[Piece, ...]]
    results: dict[int, int]


def derive(graph: Graph, results: Sequence[tuple[Piece, ...]]) -> Gradients:
    """Return the gradients of results, whose own gradients are leaves of the source "cotangent".

    Autograd follows only the paths that a gradient comes along. Here all gradients are computed at
    once, from zeros where there is none; and zero times an infinite derivative is not a number. So
    what depends on absent gradients alone is set to zero where it meets others. Leaves of the
    source "present" are 1 where one of a set of results has a gradient; their numbers are the sets
    as bits. Steps in which all gradients are absent must be left out.

    Arguments:
        graph: The graph, which grows.
        results: The pieces of each result.
    """
    graph.builder.of_gradient = True
    return _Derivation(graph, results).found


@final
class _Derivation:
    def __init__(self, graph: Graph, results: Sequence[tuple[Piece, ...]]):
        self.graph = graph
        self.of: dict[int, int] = {}
        self.wide: dict[tuple[int, int], int] = {}  # of nodes of width 1, before the reduction
        self.found = Gradients({}, {}, {})
        self.every = (1 << len(results)) - 1
        self.sources: list[int] = []  # results as bits, by position
        self.vanishes: list[bool] = []  # zero wherever the gradients that it depends on are
        own = {p.position for result in results for p in result}
        needed = graph.ancestors(own)
        products = len(graph.products)
        # the leaves of a product are beside each other in time: it is done after its first one
        first: dict[int, int] = {}
        for position in sorted(needed):
            leaf = graph.leaves.get(position)
            if leaf is not None and leaf.source == "product":
                first.setdefault(leaf.number, position)
        self.leaves_of: dict[int, list[int]] = {}
        for position in sorted(needed):
            leaf = graph.leaves.get(position)
            if leaf is not None and leaf.source == "product":
                self.leaves_of.setdefault(leaf.number, []).append(position)
        for number, result in enumerate(results):
            offset = 0
            for piece in result:
                cotangent = graph.leaf("cotangent", number, offset, piece.width)
                self.give(piece, cotangent)
                offset += piece.width
        done = {position: number for number, position in first.items()}
        for position in sorted(needed, reverse=True):
            self.reduce_wide(position)
            self.step(position)
            if position in done and done[position] < products:
                self.through_product(done[position])

    def give(self, piece: Piece, gradient: int) -> None:
        """Add a gradient to that of a piece."""
        if self.graph.nodes[piece.position].constant is not None:
            return
        narrow = self.graph.width(piece.position) == 1
        if narrow and piece.width > 1:
            if self.graph.width(gradient) == 1:
                gradient = (self.graph.value(gradient) * piece.width).position
            else:
                key = piece.position, self.graph.width(gradient)
                self.wide[key] = self.sum(self.wide.get(key), gradient)
                return
        self.of[piece.position] = self.sum(self.of.get(piece.position), gradient)

    def sum(self, before: int | None, gradient: int) -> int:
        """Return the sum of two gradients, either of which may be absent."""
        if before is None:
            return gradient
        self.look()
        reader = self.sources[before] | self.sources[gradient]
        parts = self.present(before, reader), self.present(gradient, reader)
        return call("add", *map(self.graph.value, parts)).position

    def present(self, position: int, reader: int) -> int:
        """Return a gradient for a reader of those of several results: zero where it is absent."""
        self.look()
        own = self.sources[position]
        if own in (0, reader) or self.vanishes[position]:
            return position
        is_there = call("ne", self.graph.value(self.graph.leaf("present", own, 0, 1)), 0.0)
        return call("where", is_there, self.graph.value(position), 0.0).position

    def look(self) -> None:
        """Find the sources of new nodes."""
        graph = self.graph
        for i in range(len(self.sources), len(graph.nodes)):
            leaf, reads = graph.leaves.get(i), graph.reads(i)
            own = 1 << leaf.number if leaf is not None and leaf.source == "cotangent" else 0
            for read in reads:
                own |= self.sources[read]
            self.sources.append(own)
            self.vanishes.append(graph.nodes[i].constant == 0 or (own > 0 and self.is_linear(i)))

    def is_linear(self, position: int) -> bool:
        """Return True if a value is zero where the gradients that it depends on are."""
        graph, node = self.graph, self.graph.nodes[position]
        leaf, reads = graph.leaves.get(position), graph.reads(position)
        if leaf is not None:
            if leaf.source == "reduction" and graph.reductions[leaf.number].operation != "sum":
                return False
            return all(self.vanishes[r] for r in reads)
        if node.operation == "mul":
            factors = zip(reads, reads[::-1], strict=True)
            constants = ((self.vanishes[a], graph.nodes[b].constant) for a, b in factors)
            return any(v and c is not None and math.isfinite(c) for v, c in constants)
        if node.operation == "where":
            return not self.sources[reads[0]] and all(self.vanishes[r] for r in reads[1:])
        return node.operation in ("neg", "add", "sub") and all(self.vanishes[r] for r in reads)

    def reduce_wide(self, position: int) -> None:
        """Reduce the gradients of a node of width 1 that come from wider ones."""
        for key in [key for key in self.wide if key[0] == position]:
            reduced = self.graph.reduce("sum", self.wide.pop(key))
            self.give(Piece(position, 1), reduced)

    def step(self, position: int) -> None:
        """Pass the gradient of a node on to those that it reads."""
        gradient = self.of.get(position)
        if gradient is None:
            return
        graph, leaf = self.graph, self.graph.leaves.get(position)
        if leaf is None:
            node = graph.nodes[position]
            rule = _RULES.get(node.operation)
            if rule is None:
                return
            width = graph.width(position)
            values = [graph.value(a) for a in node.arguments]
            parts = rule(graph.value(gradient), graph.value(position), *values)
            for argument, part in zip(node.arguments, parts, strict=True):
                if part is not None and part.constant != 0:
                    self.give(Piece(argument, width), part.position)
        elif leaf.source == "reduction":
            self.through_reduction(leaf.number, position, gradient)
        elif leaf.source != "product":
            self.found.leaves[position] = self.present(gradient, self.every)
            self.look()
            self.found.results[position] = self.sources[gradient]

    def through_reduction(self, number: int, position: int, gradient: int) -> None:
        """Pass the gradient of a reduction on."""
        graph, reduction = self.graph, self.graph.reductions[number]
        source, g = reduction.position, self.graph.value(gradient)
        if reduction.operation == "sum":
            # a gradient of width 1 counts for every unit
            self.of[source] = self.sum(self.of.get(source), gradient)
        elif reduction.operation == "max":
            at = call("eq", graph.value(source), graph.value(position))
            share = call("where", at, 1.0, 0.0)
            count = graph.value(graph.reduce("sum", share.position))
            self.give(Piece(source, graph.width(source)), (share * (g / count)).position)

    def through_product(self, number: int) -> None:
        """Pass the gradient of a product on, if it has one."""
        graph, product = self.graph, self.graph.products[number]
        leaves = sorted(self.leaves_of[number], key=lambda p: graph.leaves[p].offset)
        if not any(p in self.of for p in leaves):
            return
        zero = graph.builder.constant(0)
        pieces: list[Piece] = []
        end = 0
        for position in leaves:
            leaf = graph.leaves[position]
            if leaf.offset > end:
                pieces.append(Piece(zero, leaf.offset - end))
            # the gradient of the matrix is a sum over all steps
            own = self.present(self.of.get(position, zero), self.every)
            pieces.append(Piece(own, leaf.width))
            end = leaf.offset + leaf.width
        if end < product.width:
            pieces.append(Piece(zero, product.width - end))
        self.found.products[number] = tuple(pieces)
        back = Product(tuple(pieces), product.weight, not product.transposed, product.depth)
        made, offset = graph.product(back), 0
        for piece in product.inputs:
            self.give(piece, graph.leaf("product", made, offset, piece.width))
            offset += piece.width


Part = Value | None
_Rule = Callable[..., Sequence[Part]]


def _power(g: Value, y: Value, x: Value, exponent: Value) -> Sequence[Part]:
    known = exponent.constant
    if known == 0:
        return None, None
    slope = exponent * call("pow", x, exponent - 1)
    if known is None:
        slope = call("where", call("eq", exponent, 0.0), 0.0, slope)
    of_exponent = None
    if known is None:
        at_zero = call("logical_and", call("eq", x, 0.0), call("ge", exponent, 0.0))
        of_exponent = call("where", at_zero, 0.0, g * (y * call("log", x)))
    return g * slope, of_exponent


def _extreme(below: str) -> _Rule:
    """The rule of a maximum or minimum: equal numbers share the gradient."""

    def rule(g: Value, y: Value, a: Value, b: Value) -> Sequence[Part]:
        equal, half = call("eq", a, b), g * 0.5
        lost = call(below, a, b)
        of_a = call("where", equal, half, call("where", lost, 0.0, g))
        return of_a, call("where", equal, half, call("where", lost, g, 0.0))

    return rule


_RULES: dict[str, _Rule] = {
    "neg": lambda g, y, x: (-g,),
    "abs": lambda g, y, x: (g * call("sign", x),),
    "exp": lambda g, y, x: (g * y,),
    "expm1": lambda g, y, x: (g * (y + 1),),
    "log": lambda g, y, x: (g / x,),
    "log1p": lambda g, y, x: (g / (x + 1),),
    "tanh": lambda g, y, x: (g * (1 - y * y),),
    "sigmoid": lambda g, y, x: (g * (y * (1 - y)),),
    "erf": lambda g, y, x: (g * (call("exp", -(x * x)) * (2 / math.sqrt(math.pi))),),
    "sqrt": lambda g, y, x: (g / (y * 2),),
    "sin": lambda g, y, x: (g * call("cos", x),),
    "cos": lambda g, y, x: (-(g * call("sin", x)),),
    "add": lambda g, y, a, b: (g, g),
    "sub": lambda g, y, a, b: (g, -g),
    "mul": lambda g, y, a, b: (g * b, g * a),
    "div": lambda g, y, a, b: (g / b, -(g * y / b)),
    "pow": _power,
    "maximum": _extreme("lt"),
    "minimum": _extreme("gt"),
    "where": lambda g, y, m, a, b: (None, call("where", m, g, 0.0), call("where", m, 0.0, g)),
}
"""The gradients of an operation's arguments; those that are not here have none."""
