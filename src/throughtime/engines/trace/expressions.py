"""Values of a program that is being built, with the operators of numbers."""

from collections.abc import Sequence
from typing import Self, TypeAlias, final

from throughtime.engines.trace.program import OPERATIONS, Kind
from throughtime.engines.trace.simplify import Builder


@final
class Value:
    """A value of a program that is being built: it adds, multiplies and so on as numbers do.

    Arguments:
        builder: The builder of the program.
        position: The position of the value in it.
    """

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
        operation: The name of the operation.
        operands: Values, of which there is at least one, and numbers.
    """
    builder = next(o.builder for o in operands if isinstance(o, Value))
    return Value(builder, _position(operation, operands))


def as_kind(kind: Kind, value: Value) -> Value:
    """A value as a real number or a mask.

    Arguments:
        kind: The kind of the result.
        value: A value of either kind.
    """
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
