"""Programs that are built without waste: equal values are computed once, constants never.

No rule changes a result by more than rounding: 0 * x stays (x may be infinite), and so does 0 + x
(x may be -0.0), but in gradients, where the sign of a zero means nothing.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Self, TypeAlias, final

import torch

from throughtime.engines.trace.program import OPERATIONS, Key, Kind, Node, Program


@final
class Builder:
    """A program that grows: each value once, constants folded in double precision.

    Attributes:
        nodes: The values so far.
        of_gradient: If True, 0 + x is x.
    """

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.of_gradient = False
        self._index: dict[tuple[object, ...], int] = {}
        self._truth: dict[int, bool] = {}

    def input(self, key: Key) -> int:
        """The position of an input."""
        return self._enter(Node("input", key=key))

    def constant(self, value: float) -> int:
        """The position of a constant."""
        return self._enter(Node("constant", constant=float(value)))

    def add(self, operation: str, *arguments: int) -> int:
        """The position of a value that equals an operation on earlier values."""
        known = OPERATIONS[operation]
        assert [self.nodes[i].kind for i in arguments] == list(known.arguments), operation
        found = self._rewritten(operation, arguments)
        if found is not None:
            return found
        if known.symmetric:
            arguments = tuple(sorted(arguments))
        position = self._enter(Node(operation, arguments))
        constants = [self.nodes[i].constant for i in arguments]
        if known.result == "mask" and None not in constants and constants:
            self._truth[position] = bool(_folded(operation, constants))
        return position

    def program(self, outputs: Iterable[int]) -> Program:
        """The program of these values, without those that they do not need."""
        outputs = tuple(outputs)
        needed = ancestors(self.nodes, outputs)
        place = {old: new for new, old in enumerate(sorted(needed))}
        nodes = [_moved(self.nodes[old], place) for old in place]
        return Program(tuple(nodes), tuple(place[i] for i in outputs))

    def copy(
        self, nodes: Sequence[Node], wanted: Iterable[int], given: dict[int, int]
    ) -> dict[int, int]:
        """Take values over from another program, simplified on the way.

        Arguments:
            given: The positions here of values there that are known already.

        Returns:
            The positions here of all values that were taken, by those there.
        """
        place = dict(given)
        for i in sorted(ancestors(nodes, wanted, stop=given)):
            node = nodes[i]
            if i in place:
                continue
            if node.key is not None:
                place[i] = self.input(node.key)
            elif node.constant is not None:
                place[i] = self.constant(node.constant)
            else:
                place[i] = self.add(node.operation, *(place[a] for a in node.arguments))
        return place

    def _enter(self, node: Node) -> int:
        position = self._index.setdefault(node.identity, len(self.nodes))
        if position == len(self.nodes):
            self.nodes.append(node)
        return position

    def _rewritten(self, operation: str, arguments: tuple[int, ...]) -> int | None:
        """The position of an equal value that is simpler, if there is one."""
        nodes = [self.nodes[i] for i in arguments]
        constants = [node.constant for node in nodes]
        if OPERATIONS[operation].result == "real" and all(c is not None for c in constants):
            return self.constant(_folded(operation, constants))
        rule = _RULES.get(operation)
        return None if rule is None else rule(self, arguments, constants)

    def _neg(self, arguments: tuple[int, ...], constants: list[float | None]) -> int | None:
        node = self.nodes[arguments[0]]
        return node.arguments[0] if node.operation == "neg" else None

    def _add(self, arguments: tuple[int, ...], constants: list[float | None]) -> int | None:
        for one, other, constant in zip(arguments, arguments[::-1], constants, strict=True):
            if constant == 0 and (self.of_gradient or _is_negative_zero(constant)):
                return other
            if self.nodes[one].operation == "neg":
                return self.add("sub", other, self.nodes[one].arguments[0])
        return None

    def _sub(self, arguments: tuple[int, ...], constants: list[float | None]) -> int | None:
        left, right = arguments
        if constants[1] == 0 and (self.of_gradient or not _is_negative_zero(constants[1])):
            return left
        if constants[0] == 0 and (self.of_gradient or _is_negative_zero(constants[0])):
            return self.add("neg", right)
        if self.nodes[right].operation == "neg":
            return self.add("add", left, self.nodes[right].arguments[0])
        return None

    def _mul(self, arguments: tuple[int, ...], constants: list[float | None]) -> int | None:
        for one, other, constant in zip(arguments, arguments[::-1], constants, strict=True):
            if constant == 1:
                return other
            if constant == -1:
                return self.add("neg", other)
            if self.nodes[one].operation == "neg":  # of a product or of a factor: the same bits
                factor, scale = self.nodes[one].arguments[0], self.nodes[other].constant
                if scale is not None:
                    return self.add("mul", factor, self.constant(-scale))
                return self.add("neg", self.add("mul", factor, other))
        return None

    def _div(self, arguments: tuple[int, ...], constants: list[float | None]) -> int | None:
        divisor = constants[1]
        if divisor is None or divisor == 0 or not math.isfinite(divisor):
            return None
        mantissa, exponent = math.frexp(divisor)
        if abs(mantissa) == 0.5 and abs(exponent) < 100:  # its inverse is exact
            return self.add("mul", arguments[0], self.constant(1 / divisor))
        return None

    def _where(self, arguments: tuple[int, ...], constants: list[float | None]) -> int | None:
        mask, yes, no = arguments
        if yes == no:
            return yes
        if mask in self._truth:
            return yes if self._truth[mask] else no
        if self.nodes[mask].operation == "logical_not":
            return self.add("where", self.nodes[mask].arguments[0], no, yes)
        return None

    def _not(self, arguments: tuple[int, ...], constants: list[float | None]) -> int | None:
        (mask,) = arguments
        if mask in self._truth:
            return self._known(not self._truth[mask])
        node = self.nodes[mask]
        return node.arguments[0] if node.operation == "logical_not" else None

    def _and(self, arguments: tuple[int, ...], constants: list[float | None]) -> int | None:
        return self._junction(arguments, decisive=False)

    def _or(self, arguments: tuple[int, ...], constants: list[float | None]) -> int | None:
        return self._junction(arguments, decisive=True)

    def _junction(self, arguments: tuple[int, ...], decisive: bool) -> int | None:
        for one, other in (arguments, arguments[::-1]):
            if one == other:
                return one
            if one in self._truth:
                return one if self._truth[one] is decisive else other
        return None

    def _known(self, truth: bool) -> int:
        return self.add("eq" if truth else "ne", self.constant(0), self.constant(0))


Rule = Callable[[Builder, tuple[int, ...], list[float | None]], int | None]
_RULES: dict[str, Rule] = {
    "neg": Builder._neg,
    "add": Builder._add,
    "sub": Builder._sub,
    "mul": Builder._mul,
    "div": Builder._div,
    "where": Builder._where,
    "logical_not": Builder._not,
    "logical_and": Builder._and,
    "logical_or": Builder._or,
}


def ancestors(nodes: Sequence[Node], of: Iterable[int], stop: Iterable[int] = ()) -> set[int]:
    """The positions of values and of all that they are computed from.

    Arguments:
        stop: The positions of values whose own origin does not matter.
    """
    stop, found, left = set(stop), set(), list(of)
    while left:
        i = left.pop()
        if i not in found:
            found.add(i)
            left += () if i in stop else nodes[i].arguments
    return found


def _moved(node: Node, place: dict[int, int]) -> Node:
    arguments = tuple(place[a] for a in node.arguments)
    return Node(node.operation, arguments, node.constant, node.key)


def _folded(operation: str, constants: Iterable[float | None]) -> float:
    function = OPERATIONS[operation].function
    return function(*(torch.tensor(c, dtype=torch.float64) for c in constants)).item()


def _is_negative_zero(value: float | None) -> bool:
    return value == 0 and math.copysign(1, value) < 0


@final
class Value:
    """A value of a program that is being built: it adds, multiplies and so on as numbers do."""

    __slots__ = ("builder", "position")

    def __init__(self, builder: Builder, position: int):
        self.builder, self.position = builder, position

    @property
    def kind(self) -> Kind:
        """The kind of the value: a real number or a mask."""
        return self.builder.nodes[self.position].kind

    @property
    def constant(self) -> float | None:
        """The number, if the value is a constant."""
        return self.builder.nodes[self.position].constant

    def __add__(self, other: Self | float) -> Self:
        return self._made("add", self, other)

    def __radd__(self, other: float) -> Self:
        return self._made("add", other, self)

    def __sub__(self, other: Self | float) -> Self:
        return self._made("sub", self, other)

    def __rsub__(self, other: float) -> Self:
        return self._made("sub", other, self)

    def __mul__(self, other: Self | float) -> Self:
        return self._made("mul", self, other)

    def __rmul__(self, other: float) -> Self:
        return self._made("mul", other, self)

    def __truediv__(self, other: Self | float) -> Self:
        return self._made("div", self, other)

    def __rtruediv__(self, other: float) -> Self:
        return self._made("div", other, self)

    def __neg__(self) -> Self:
        return self._made("neg", self)

    def __lt__(self, other: Self | float) -> Self:
        return self._made("lt", self, other)

    def __le__(self, other: Self | float) -> Self:
        return self._made("le", self, other)

    def __gt__(self, other: Self | float) -> Self:
        return self._made("gt", self, other)

    def __ge__(self, other: Self | float) -> Self:
        return self._made("ge", self, other)

    def _made(self, operation: str, *operands: Self | float) -> Self:
        return type(self)(self.builder, _position(operation, operands))

    def __bool__(self) -> bool:
        raise AssertionError("a value is known only when the program runs")


Operand: TypeAlias = Value | float
"""What an operation takes."""


def call(operation: str, *operands: Operand) -> Value:
    """The value of an operation; masks count as 0 and 1, numbers other than 0 as true.

    Arguments:
        operands: Values, of which there is at least one, and numbers.
    """
    builder = next(o.builder for o in operands if isinstance(o, Value))
    return Value(builder, _position(operation, operands))


def as_kind(kind: Kind, value: Value) -> Value:
    """A value as a real number or a mask."""
    return Value(value.builder, _as(kind, value.builder, value))


def _position(operation: str, operands: Sequence[Operand]) -> int:
    builder = next(o.builder for o in operands if isinstance(o, Value))
    kinds = OPERATIONS[operation].arguments
    positions = [_as(k, builder, o) for k, o in zip(kinds, operands, strict=True)]
    return builder.add(operation, *positions)


def _as(kind: Kind, builder: Builder, operand: Operand) -> int:
    position = operand.position if isinstance(operand, Value) else builder.constant(operand)
    if builder.nodes[position].kind == kind:
        return position
    if kind == "mask":
        return builder.add("ne", position, builder.constant(0))
    return builder.add("where", position, builder.constant(1), builder.constant(0))
