"""Everything that a plan depends on: the fingerprint of its cell, and a reading of all else.

A fingerprint is the cell's class, its attributes that are no tensors, and its shapes. It compares
values, not objects, so that copies of a cell share a plan. Functions, classes and other objects
without comparable parts are compared by identity. A reading is a list of places beyond the cell.
"""

import argparse
import array
import collections
import dataclasses
import functools
import operator
import sys
import types
from collections.abc import Hashable, Iterable, Mapping
from typing import Any, final

import numpy as np
import torch
from torch import Tensor, nn

from throughtime.core.cell import Cell
from throughtime.engines.trace.program import UntraceableError

OF_MODULES = frozenset(vars(nn.Module()))
"""Attributes that every module has."""

PARTS: dict[type, tuple[str, ...]] = {
    functools.partial: ("func", "args", "keywords"),
    functools.partialmethod: ("func", "args", "keywords"),
    functools.cached_property: ("func",),
    type(functools.cache(len)): ("__wrapped__",),
    types.MethodType: ("__func__", "__self__"),
    staticmethod: ("__func__",),
    classmethod: ("__func__",),
    property: ("fget", "fset", "fdel"),
    slice: ("start", "stop", "step"),
    range: ("start", "stop", "step"),
}
"""Types whose objects consist of these attributes."""

NOTHING = object()
"""The value of a name that has none yet."""

_HOOKS = tuple(n for n in OF_MODULES if n.endswith(("hooks", "kwargs")) and "state_dict" not in n)
NOT_READ = OF_MODULES - {"training"} | {"additive"}  # filled in by the first run
"""Attributes that are no part of a fingerprint, or a part of their own."""
_ATOMS = frozenset({str, bool, int, bytes, type(None), torch.device, torch.dtype})
_BY_IDENTITY = (
    types.FunctionType,
    types.ModuleType,
    types.MemberDescriptorType,
    types.GetSetDescriptorType,
    types.WrapperDescriptorType,
    types.MethodDescriptorType,
    type,
)
_CONSTANT = (*_BY_IDENTITY, property, staticmethod, classmethod)
_PLAIN = frozenset(
    {tuple, list, dict, set, frozenset, collections.deque, np.ndarray, types.MappingProxyType}
)
_OTHERS = frozenset(sys.stdlib_module_names) - {"__main__"} | {
    "torch",
    "numpy",
    "jaxtyping",
    "beartype",
}


def fingerprint(cell: Cell, dtype: torch.dtype) -> tuple[Hashable, list[object]]:
    """The description of a cell without its tensors' values.

    It holds the class, all attributes that are no tensors, the names and shapes of parameters and
    buffers, and the same of submodules, with their hooks. Containers, arrays and objects with
    attributes are compared by content, other objects by identity.

    Returns:
        The description, and the objects that must live as long as it is in use, because it holds
        their addresses.

    Raises:
        UntraceableError: Attributes are nested too deeply to be compared.
    """
    description = _Description()
    try:
        described = description.module(cell)
    except RecursionError as error:
        raise _too_deep() from error
    return (dtype, torch.get_default_dtype(), described), description.kept


def contents(value: object) -> tuple[Hashable, list[object]]:
    """The description of any value, and the objects that must live as long as it is in use.

    Raises:
        UntraceableError: The value is nested too deeply to be compared.
    """
    description = _Description()
    try:
        return description.of(value), description.kept
    except RecursionError as error:
        raise _too_deep() from error


def is_constant(value: object) -> bool:
    """True if a value is compared by identity alone or never changes, so that it needs no check."""
    kind = type(value)
    if kind is tuple:
        return all(map(is_constant, value))  # pyright: ignore[reportArgumentType]
    if kind is types.BuiltinFunctionType:
        return isinstance(value.__self__, type | types.ModuleType | None)  # pyright: ignore
    return kind in _ATOMS or kind is float or isinstance(value, _CONSTANT)


@final
@dataclasses.dataclass(eq=False)
class Reading:
    """The places beyond its cell that a `pointwise` may read, and the values found there.

    Attributes:
        places: Dictionaries of globals and of modules, a name in each, and its value.
        spaces: Dictionaries of classes and functions, and all their values.
        functions: Functions, with their code, defaults and keyword defaults.
        variables: Variables of enclosing functions, and their values.
        changing: Values that may change in place, their descriptions, and the objects whose
            addresses are in them.
        refusal: The reason if `pointwise` may read something that can change unseen, else None.
    """

    places: list[tuple[Mapping[str, Any], str, Any]] = dataclasses.field(default_factory=list)
    spaces: list[tuple[Mapping[str, Any], tuple[Any, ...]]] = dataclasses.field(
        default_factory=list
    )
    functions: list[tuple[types.FunctionType, types.CodeType, Any, Any]] = dataclasses.field(
        default_factory=list
    )
    variables: list[tuple[types.CellType, Any]] = dataclasses.field(default_factory=list)
    changing: list[tuple[Any, Hashable, list[object]]] = dataclasses.field(default_factory=list)
    refusal: str | None = None

    def is_current(self) -> bool:
        """True if every place holds what it held before."""
        for space, name, value in self.places:
            if space.get(name, NOTHING) is not value:
                return False
        for space, values in self.spaces:
            if len(space) != len(values) or not all(map(operator.is_, space.values(), values)):
                return False
        for function, code, defaults, by_name in self.functions:
            if (
                function.__code__ is not code
                or function.__defaults__ is not defaults
                or function.__kwdefaults__ is not by_name
            ):
                return False
        for variable, value in self.variables:
            if content_of(variable) is not value:
                return False
        return not any(contents(value)[0] != known for value, known, _ in self.changing)


def content_of(variable: types.CellType) -> Any:
    """The value of a variable of an enclosing function; `NOTHING` if it has none yet."""
    try:
        return variable.cell_contents
    except ValueError:
        return NOTHING


def _too_deep() -> UntraceableError:
    return UntraceableError("pointwise may read values that are nested too deeply to be compared")


@final
class _Description:
    """One walk over a value and its parts."""

    __slots__ = ("kept", "seen")

    def __init__(self):
        self.kept: list[object] = []
        self.seen: dict[int, tuple[int, object]] = {}  # holds the objects, or ids would come again

    def module(self, module: nn.Module) -> Hashable:
        """The description of a module, without its hooks."""
        self.seen[id(module)] = len(self.seen), module
        own, of = vars(module), self.of
        tensors = [*own["_parameters"].items(), *own["_buffers"].items()]
        children = own["_modules"]
        return (
            type(module),
            tuple(
                [
                    (n, type(v), v if type(v) in _ATOMS else of(v))
                    for n, v in own.items()
                    if n not in NOT_READ
                ]
            ),
            tuple(
                [(n, None if t is None else (t.shape, t.is_floating_point())) for n, t in tensors]
            ),
            tuple([(n, of(m)) for n, m in children.items()]) if children else (),
        )

    def of(self, value: Any) -> Hashable:
        """The description of a value: equal for two values if they are the same to a reader."""
        kind = type(value)
        if kind in _ATOMS:
            return kind, value  # 1 and True are equal, and not the same
        if kind is float:
            return kind, value.hex()  # nan is not equal to itself, and -0.0 is equal to 0.0
        if kind is tuple and _ATOMS.issuperset(map(type, value)):
            return kind, value, tuple(map(type, value))
        if isinstance(value, _BY_IDENTITY):
            return self._address(value)
        known = self.seen.get(id(value))
        if known is not None:
            return "seen", known[0]
        if isinstance(value, nn.Module):
            own = vars(value)
            hooks = tuple([(n, self._all(own[n].values())) for n in _HOOKS if own.get(n)])
            return self.module(value), hooks
        self.seen[id(value)] = len(self.seen), value
        return self._parts(kind, value)

    def _all(self, values: Iterable[Any]) -> tuple[Hashable, ...]:
        return tuple([self.of(v) for v in list(values)])

    def _address(self, value: object) -> tuple[Hashable, ...]:
        self.kept.append(value)
        return type(value), id(value)

    def _parts(self, kind: type, value: Any) -> Hashable:
        """The description of a value that may lead back to itself."""
        if isinstance(value, Tensor):
            return *self._address(value), None if value.is_inference() else value._version
        if isinstance(value, tuple | list | collections.deque):
            return kind, self._all(value), self._more(kind, value)
        if isinstance(value, dict | types.MappingProxyType):
            entries = list(value.items())
            parts = tuple([(self.of(k), self.of(v)) for k, v in entries])
            return kind, parts, self._more(kind, value)
        if isinstance(value, set | frozenset):
            return kind, frozenset(self._all(value)), self._more(kind, value)
        if isinstance(value, np.ndarray | np.generic):
            objects = value.dtype.hasobject
            content = self._all(value.ravel().tolist()) if objects else value.tobytes()
            return kind, value.dtype, value.shape, content, self._more(kind, value)
        if kind is array.array:
            return kind, value.typecode, value.tobytes()
        if kind is bytearray:
            return kind, bytes(value)
        if kind is types.BuiltinFunctionType:
            owner = value.__self__
            return *self._address(value), self.of(owner)
        if kind in PARTS:
            return kind, self._all(getattr(value, name) for name in PARTS[kind])
        attributes = self._attributes(kind, value)
        if kind in (types.SimpleNamespace, argparse.Namespace) or dataclasses.is_dataclass(kind):
            return kind, attributes
        if kind.__module__.partition(".")[0] in _OTHERS:
            return self._address(value)
        if attributes and kind.__new__ is object.__new__:
            return kind, attributes
        return *self._address(value), attributes

    def _more(self, kind: type, value: Any) -> tuple[Hashable, ...]:
        """The attributes of a container of a class of its own."""
        return () if kind in _PLAIN else self._attributes(kind, value)

    def _attributes(self, kind: type, value: Any) -> tuple[Hashable, ...]:
        """The attributes of an object, in its dictionary and in slots."""
        own = getattr(value, "__dict__", None)
        found: list[Hashable] = []
        if type(own) is dict:
            found += [(n, self.of(v)) for n, v in list(own.items())]
        for part in kind.__mro__:
            for name, slot in list(vars(part).items()):
                if type(slot) is types.MemberDescriptorType:
                    try:
                        found.append((part, name, self.of(slot.__get__(value))))
                    except AttributeError:
                        found.append((part, name))
        return tuple(found)
