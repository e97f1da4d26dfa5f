"""A program: elementwise operations in order, each on the results of earlier ones."""

import dataclasses
import struct
from collections.abc import Callable
from typing import Literal, TypeAlias, final

import torch
from torch import Tensor

from throughtime.core.errors import ThroughtimeError

Kind: TypeAlias = Literal["real", "mask"]


@final
@dataclasses.dataclass(frozen=True)
class Operation:
    """An elementwise operation.

    Attributes:
        arguments: "real" or "mask" for each argument.
        result: "real" or "mask".
        function: The same operation in torch, differentiable.
        symmetric: If True, its two arguments may change places.
    """

    arguments: tuple[Kind, ...]
    result: Kind
    function: Callable[..., Tensor]
    symmetric: bool = False


_UNARY = ("neg", "abs", "sign", "exp", "expm1", "log", "log1p", "tanh", "sigmoid", "erf", "sqrt")
_ROUNDING = ("sin", "cos", "floor", "ceil", "round", "trunc")
_BINARY = ("add", "sub", "mul", "div", "minimum", "maximum", "pow")
_COMPARISONS = ("lt", "le", "gt", "ge", "eq", "ne")
_SYMMETRIC = frozenset({"add", "mul", "eq", "ne", "logical_and", "logical_or"})


def _table() -> dict[str, Operation]:
    table: dict[str, Operation] = {}

    def enter(name: str, arguments: tuple[Kind, ...], result: Kind) -> None:
        table[name] = Operation(arguments, result, getattr(torch, name), name in _SYMMETRIC)

    for name in (*_UNARY, *_ROUNDING):
        enter(name, ("real",), "real")
    for name in _BINARY:
        enter(name, ("real", "real"), "real")
    for name in _COMPARISONS:
        enter(name, ("real", "real"), "mask")
    enter("logical_not", ("mask",), "mask")
    for name in ("logical_and", "logical_or"):
        enter(name, ("mask", "mask"), "mask")
    enter("where", ("mask", "real", "real"), "real")
    return table


OPERATIONS = _table()
"""All operations by name, which is torch's and that of the C++ function."""


class UntraceableError(ThroughtimeError):
    """A `pointwise` has no program; the message gives the reason."""


@final
@dataclasses.dataclass(frozen=True)
class Key:
    """The name of an input of a program.

    Attributes:
        kind: "gate" (an accumulator), "state" (before the step), "past" (the output of `index`
            steps ago), "stream", "parameter", "saved" (by the forward for the backward program),
            "result" (after the step), "cotangent" (gradient of a result), "present" (not zero where
            one of a set of results has a gradient); while a cell is traced, "x" and "u" are its
            gates.
        name: The name of a parameter, or of a field of the state: "h" or a memory.
        index: The index of a gate, accumulator, stream or saved value; a parameter's row; a delay;
            a set of results as bits, h the lowest, then the memories.
    """

    kind: str
    name: str = ""
    index: int = 0

    def __str__(self) -> str:
        parts = [self.name] if self.name else []
        if self.kind in ("gate", "past", "stream", "parameter", "saved", "present", "x", "u"):
            parts.append(str(self.index))
        return f"{self.kind}[{', '.join(parts)}]"


@final
@dataclasses.dataclass(frozen=True)
class Node:
    """One value: an operation on earlier values, an input, or a constant.

    Attributes:
        operation: A name in `OPERATIONS`, "input" or "constant".
        arguments: The positions of the values that it reads.
        constant: The number, for a constant.
        key: The key, for an input.
    """

    operation: str
    arguments: tuple[int, ...] = ()
    constant: float | None = None
    key: Key | None = None

    @property
    def kind(self) -> Kind:
        """The kind of the value: a real number or a mask."""
        known = OPERATIONS.get(self.operation)
        return known.result if known else "real"

    @property
    def identity(self) -> tuple[object, ...]:
        """Equal for two nodes of one program if and only if they are the same value."""
        # nan equals nothing and 0.0 equals -0.0: constants are told apart by their bits
        bits = None if self.constant is None else struct.pack("d", self.constant)
        return self.operation, self.arguments, bits, self.key

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Node) and self.identity == other.identity

    def __hash__(self) -> int:
        return hash(self.identity)

    def __str__(self) -> str:
        if self.key is not None:
            return str(self.key)
        if self.constant is not None:
            return repr(self.constant)
        return f"{self.operation}({', '.join(f'v{i}' for i in self.arguments)})"


@final
@dataclasses.dataclass(frozen=True)
class Program:
    """Values in order, and the positions of its outputs. `str` gives a line for each value.

    Attributes:
        nodes: The values; each reads only earlier ones.
        outputs: The positions of the outputs, which are real.
    """

    nodes: tuple[Node, ...]
    outputs: tuple[int, ...]

    @property
    def inputs(self) -> tuple[Key, ...]:
        """The keys of its inputs, in order of first use."""
        return tuple(node.key for node in self.nodes if node.key is not None)

    def __str__(self) -> str:
        lines = [f"v{i} = {node}" for i, node in enumerate(self.nodes)]
        return "\n".join([*lines, f"return {', '.join(f'v{i}' for i in self.outputs)}"])


Values: TypeAlias = Callable[[Key], Tensor]


def evaluate(program: Program, values: Values, like: Tensor | None = None) -> tuple[Tensor, ...]:
    """Run a program in torch, which can differentiate it any number of times.

    Arguments:
        values: The tensor of each input, of shapes that broadcast together.
        like: A tensor with the dtype and device of constants; an input if it is left out.

    Returns:
        The outputs, in the shapes that broadcasting gives them: (), where nothing varies.
    """
    given = {key: values(key) for key in program.inputs}
    like = next(iter(given.values()), torch.empty(())) if like is None else like
    found: list[Tensor] = []
    for node in program.nodes:
        if node.key is not None:
            found.append(given[node.key])
        elif node.constant is not None:
            found.append(torch.full((), node.constant, dtype=like.dtype, device=like.device))
        else:
            function = OPERATIONS[node.operation].function
            found.append(function(*(found[i] for i in node.arguments)))
    return tuple(found[i] for i in program.outputs)
