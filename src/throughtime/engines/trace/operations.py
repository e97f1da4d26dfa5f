"""What a program may do: the operations on real numbers and masks, and their meaning in torch."""

import dataclasses
from collections.abc import Callable
from typing import Literal, TypeAlias, final

import torch
from torch import Tensor

Kind: TypeAlias = Literal["real", "mask"]


@final
@dataclasses.dataclass(frozen=True)
class Operation:
    """An elementwise operation.

    Attributes:
        arguments: "real" or "mask" for each.
        result: what it yields.
        function: the same in torch, differentiable.
        symmetric: whether its two arguments may change places.
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
