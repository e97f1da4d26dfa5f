"""What a cell's `pointwise` may read, as a key: cells with equal ones have the same plan."""

import abc
import argparse
import array
import collections
import dataclasses
import functools
import sys
import types
import typing
from collections.abc import Hashable, Iterable
from typing import Any, final

import numpy as np
import torch
from torch import Tensor, nn

from throughtime.core.cell import Cell
from throughtime.core.gated import GatedCell

_OF_MODULES = frozenset(vars(nn.Module()))
_HOOKS = tuple(n for n in _OF_MODULES if n.endswith(("hooks", "kwargs")) and "state_dict" not in n)
_NOT_READ = _OF_MODULES | {"additive"}  # which the engines find out themselves, at some time
_BASES = frozenset({GatedCell, Cell, nn.Module, abc.ABC, object, typing.Generic, typing.Protocol})
_NOT_OF_CLASSES = frozenset(
    [
        "__module__",
        "__qualname__",
        "__doc__",
        "__dict__",
        "__weakref__",
        "__annotations__",
        "__slots__",
        "__init__",
        "__abstractmethods__",
        "_abc_impl",
        "__orig_bases__",
        "__parameters__",
        "__dataclass_fields__",
        "__dataclass_params__",
        "__match_args__",
    ]
)
_BY_VALUE = frozenset({str, bool, int, bytes, complex, type(None), range, torch.device})
_BY_IDENTITY = (
    types.MemberDescriptorType,
    types.GetSetDescriptorType,
    torch.dtype,
)
_NAMESPACES = (types.SimpleNamespace, argparse.Namespace)
_DEEPEST = 64
_MOST_NAMES = 4096

# Whose functions and objects are taken as they are: what they hold is their own business.
_FIXED_OBJECTS = frozenset(sys.stdlib_module_names) | {"torch", "numpy", "jaxtyping", "beartype"}
_FIXED = _FIXED_OBJECTS | {"throughtime"}

_names: dict[int, tuple[types.CodeType, tuple[str, ...]]] = {}


def fingerprint(cell: GatedCell, dtype: torch.dtype) -> tuple[Hashable, list[object]]:
    """A description of a cell without its tensors' values.

    It has the class and what it and its bases define, all attributes, and the names and shapes of
    parameters and buffers; of submodules, also their hooks; of functions, their code, defaults,
    closures and the globals that they name, but for those of torch and the standard library.
    Containers, arrays and plain objects are walked however large they are, at each call; whatever
    else is known by its identity. Two cells share it if they are copies of one another.

    Arguments:
        cell: to describe.
        dtype: that it shall run with.

    Returns:
        The description, and the objects that must live as long as it is in use, since it knows them
        by their address.
    """
    reader = _Reader()
    described = reader.module(cell, hooks=False)
    return (dtype, torch.get_default_dtype(), described), reader.kept


def is_made_by_abc(kind: type) -> bool:
    """Whether a class was made by a call of `type`, which then names the module of its metaclass.

    Arguments:
        kind: any class.
    """
    return kind.__module__ == "abc" and kind is not abc.ABC and kind is not abc.ABCMeta


@functools.cache
def _is_fixed(module: object) -> bool:
    return isinstance(module, str) and module.partition(".")[0] in _FIXED


@functools.cache
def _has_fixed_objects(module: object) -> bool:
    return isinstance(module, str) and module.partition(".")[0] in _FIXED_OBJECTS


def _names_of(code: types.CodeType) -> tuple[str, ...]:
    """What a function names of globals and attributes, with the functions that it makes."""
    found = _names.get(id(code))
    if found is None:
        names = dict.fromkeys(code.co_names)
        for constant in code.co_consts:
            if isinstance(constant, types.CodeType):
                names |= dict.fromkeys(_names_of(constant))
        if len(_names) >= _MOST_NAMES:
            _names.clear()
        found = _names[id(code)] = code, tuple(names)
    return found[1]


@final
class _Reader:
    """One walk over what a cell can reach."""

    __slots__ = ("depth", "kept", "seen")

    def __init__(self):
        self.kept: list[object] = []
        self.seen: dict[int, tuple[int, object]] = {}  # with the objects, or ids come again
        self.depth = 0

    def module(self, module: nn.Module, *, hooks: bool = True) -> Hashable:
        """A module, whose tensors have names and shapes only."""
        if id(module) in self.seen:
            return "seen", self.seen[id(module)][0]
        self.seen[id(module)] = len(self.seen), module
        own, frozen = vars(module), self.frozen
        return (
            frozen(type(module)),
            own["training"],
            tuple([(n, frozen(v)) for n, v in list(own.items()) if n not in _NOT_READ]),
            tuple([_tensor(n, t) for n, t in own["_parameters"].items()]),
            tuple([_tensor(n, t) for n, t in own["_buffers"].items()]),
            tuple([(n, None if m is None else self.module(m)) for n, m in own["_modules"].items()]),
            tuple([(n, self.all(own[n].values())) for n in _HOOKS if own.get(n)]) if hooks else (),
        )

    def frozen(self, value: Any) -> Hashable:
        """A value, or the address of an object that is then kept."""
        kind = type(value)
        if kind in _BY_VALUE:
            return kind, value  # 1, 1.0 and True are equal, and not the same
        if kind is float:
            return kind, value.hex()  # nan is not equal to itself, and -0.0 is equal to 0.0
        if kind is types.FunctionType and value.__closure__ is None and is_fixed_function(value):
            return value
        if isinstance(value, _BY_IDENTITY):
            return self._address(value)
        known = self.seen.get(id(value))
        if known is not None:
            return "seen", known[0]
        if self.depth == _DEEPEST:
            return self._address(value)
        self.seen[id(value)] = len(self.seen), value
        self.depth += 1
        try:
            return self._entered(kind, value)
        finally:
            self.depth -= 1

    def all(self, values: Iterable[Any]) -> tuple[Hashable, ...]:
        """Several values."""
        return tuple([self.frozen(v) for v in list(values)])

    def _address(self, value: object) -> tuple[Hashable, ...]:
        self.kept.append(value)
        return type(value), id(value)

    def _entered(self, kind: type, value: Any) -> Hashable:
        """What has parts, which may lead back to it."""
        if kind is types.FunctionType:
            return self._function(value)
        if isinstance(value, type):
            return self._class(value)
        if isinstance(value, nn.Module):
            del self.seen[id(value)]
            return self.module(value)
        if isinstance(value, Tensor):
            return *self._address(value), None if value.is_inference() else value._version
        if isinstance(value, tuple | list | collections.deque):
            return kind, *self.all(value), self._more(kind, value)
        if isinstance(value, dict | types.MappingProxyType):
            entries = list(value.items())
            parts = [(self.frozen(k), self.frozen(v)) for k, v in entries]
            return kind, *parts, self._more(kind, value)
        if isinstance(value, set | frozenset):
            return kind, frozenset(self.all(value)), self._more(kind, value)
        if isinstance(value, np.ndarray | np.generic):
            return self._array(kind, value)
        if kind is array.array:
            return kind, value.typecode, value.tobytes()
        if kind is bytearray:
            return kind, bytes(value)
        if kind is types.BuiltinFunctionType:
            return *self._address(value), self._owner(value.__self__)
        parts = _PARTS.get(kind)
        if parts is not None:
            found = tuple([self.frozen(getattr(value, name)) for name in parts])
            return kind, found
        return self._object(kind, value)

    def _owner(self, value: object) -> Hashable:
        """What a builtin function is bound to, unless that is where it is defined."""
        return None if isinstance(value, types.ModuleType | type) else self.frozen(value)

    def _array(self, kind: type, value: Any) -> Hashable:
        content = self.all(value.ravel().tolist()) if value.dtype.hasobject else value.tobytes()
        return kind, value.dtype, value.shape, content, self._more(kind, value)

    def _function(self, function: types.FunctionType) -> Hashable:
        """A function, and what it may read besides its arguments."""
        self.kept.append(function.__code__)
        cells = [_content(cell) for cell in function.__closure__ or ()]
        found: list[Hashable] = [function, id(function.__code__), self.all(cells)]
        if is_fixed_function(function):
            return tuple(found)
        modules: set[int] = set()
        names = _names_of(function.__code__)
        found += [self._named(c, names, modules) for c in cells if isinstance(c, types.ModuleType)]
        found.append(self.frozen(function.__defaults__))
        found.append(self.frozen(function.__kwdefaults__))
        found.append(self.frozen(vars(function)))
        variables = function.__globals__
        for name in names:
            if name in variables:
                value = variables[name]
                found.append((name, self._named(value, names, modules)))
        return tuple(found)

    def _named(self, value: Any, names: tuple[str, ...], modules: set[int]) -> Hashable:
        """A global; of a module, what is named of it, once for each function."""
        if not isinstance(value, types.ModuleType):
            return self.frozen(value)
        if id(value) in modules:
            return value
        modules.add(id(value))
        own = vars(value)
        return value, *((n, self._named(own[n], names, modules)) for n in names if n in own)

    def _class(self, kind: type) -> Hashable:
        """A class and what it defines now, which may have been changed since it was made."""
        if _has_fixed_objects(kind.__module__) and not (
            issubclass(kind, nn.Module) or is_made_by_abc(kind)
        ):
            return kind
        found: list[Hashable] = [kind]
        for part in kind.__mro__:
            if part not in _BASES:
                found.append(part)
                for name, value in list(vars(part).items()):
                    if name not in _NOT_OF_CLASSES:
                        found.append((name, self.frozen(value)))
        return tuple(found)

    def _object(self, kind: type, value: Any) -> Hashable:
        """Any other object, by its attributes if it has no other parts."""
        if kind in _NAMESPACES or dataclasses.is_dataclass(kind):
            return kind, self._contents(kind, value), self.frozen(kind)
        if isinstance(value, types.ModuleType) or _has_fixed_objects(kind.__module__):
            return self._address(value)
        contents = self._contents(kind, value)
        if contents and kind.__new__ is object.__new__:
            return kind, contents, self.frozen(kind)
        return self._address(value), contents, self.frozen(kind)

    def _more(self, kind: type, value: Any) -> tuple[Hashable, ...]:
        """What a container has besides its entries: a subclass has attributes and methods."""
        if kind in _CONTAINERS:
            return ()
        return *self._contents(kind, value), self.frozen(kind)

    def _contents(self, kind: type, value: Any) -> tuple[Hashable, ...]:
        """The attributes of an object, in its dictionary and in slots."""
        own = getattr(value, "__dict__", None)
        found: list[Hashable] = []
        if type(own) is dict:
            found += [(n, self.frozen(v)) for n, v in list(own.items())]
        for part in kind.__mro__:
            for name, slot in list(vars(part).items()):
                if type(slot) is types.MemberDescriptorType:
                    try:
                        found.append((part, name, self.frozen(slot.__get__(value))))
                    except AttributeError:
                        found.append((part, name))
        return tuple(found)


_CONTAINERS = frozenset(
    {tuple, list, dict, set, frozenset, collections.deque, np.ndarray, types.MappingProxyType}
)
_PARTS: dict[type, tuple[str, ...]] = {
    functools.partial: ("func", "args", "keywords"),
    functools.partialmethod: ("func", "args", "keywords"),
    functools.cached_property: ("func",),
    type(functools.cache(len)): ("__wrapped__",),
    types.MethodType: ("__func__", "__self__"),
    staticmethod: ("__func__",),
    classmethod: ("__func__",),
    property: ("fget", "fset", "fdel"),
    slice: ("start", "stop", "step"),
}


def is_fixed_function(function: types.FunctionType) -> bool:
    return _is_fixed(function.__globals__.get("__name__"))


def _content(cell: types.CellType) -> object:
    """What a variable of an enclosing function holds; itself if nothing yet."""
    try:
        return cell.cell_contents
    except ValueError:
        return cell


def _tensor(name: str, tensor: Tensor | None) -> tuple[Hashable, ...]:
    return (name, None) if tensor is None else (name, tensor.shape, tensor.is_floating_point())
