"""Reading the code of `pointwise`: every value that it may read beyond the cell, or a refusal.

A kernel contains the constants that `pointwise` read when it was traced. This module follows the
code of all functions that `pointwise` may reach, and records the places that they read: globals,
members of modules, classes, closures, defaults. A value that cannot be followed is refused by name,
and the eager engine runs. Only what is known to be harmless is let through.
"""

import abc
import array
import collections
import dataclasses
import dis
import enum
import functools
import itertools
import sys
import types
from collections.abc import Mapping
from typing import Any, final

import numpy as np
import torch
from torch import Tensor, nn

from throughtime.core.cell import Cell
from throughtime.core.gated import GatedCell
from throughtime.engines.trace import instructions
from throughtime.engines.trace.fingerprint import (
    NOTHING,
    OF_MODULES,
    PARTS,
    Reading,
    content_of,
    contents,
    is_constant,
)
from throughtime.engines.trace.instructions import (
    codes_of,
    constant_name,
    is_called,
    is_fixed_function,
    is_made_by_code,
    is_own,
    is_pure,
    reads_a_mode,
    words,
)
from throughtime.engines.trace.program import UntraceableError

_LOADS = ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS")
_LOADS_OF_CLASSES = ("LOAD_CLASSDEREF", "LOAD_FROM_DICT_OR_DEREF")
_PLAIN = (str, bool, int, float, complex, bytes, bytearray, range, slice)
_PLAIN += (type(None), type(...), type(NotImplemented))
_PLAIN_OF_TORCH = (torch.dtype, torch.device, torch.Size, torch.memory_format, torch.layout)
_METACLASSES = (type, abc.ABCMeta, enum.EnumMeta)
_NOT_RUN = words(
    """__init__ __doc__ __module__ __dict__ __weakref__ __annotations__ __init_subclass__
    __class_getitem__ __reduce__ __reduce_ex__ __setstate__ __getstate__ __repr__ __del__
    __orig_bases__ __parameters__ __slots__ __match_args__ __dataclass_fields__
    __dataclass_params__ __abstractmethods__ _abc_impl __setattr__ __delattr__ __qualname__
    __deepcopy__ __copy__ __new__ __post_init__ __static_attributes__ __firstlineno__"""
)
_DESCRIPTORS = (
    types.MemberDescriptorType,
    types.GetSetDescriptorType,
    types.WrapperDescriptorType,
    types.MethodDescriptorType,
    types.ClassMethodDescriptorType,
    type(vars(collections.namedtuple("_Pair", "left"))["left"]),
)
_BASES = frozenset({GatedCell, Cell, nn.Module, abc.ABC, object})


def read(cell: Cell, *entries: str) -> Reading:
    """Follow all code that some methods of a cell may reach.

    Arguments:
        cell: The cell.
        entries: The names of the methods; `pointwise` if there are none.
    """
    return _Walk(cell, entries or ("pointwise",)).follow()


@final
class _Walk:
    """A walk from `pointwise` along the names that its functions, and those they call, use."""

    def __init__(self, cell: Cell, entries: tuple[str, ...]):
        self.entry, self.names = entries[0], set(entries)
        self.every_name = False  # a name that is read may be computed
        self.left: list[tuple[Any, str]] = [(cell, "the cell")]
        self.seen: dict[int, object] = {}
        self.spaces: list[Any] = []  # objects with attributes, of which more may be named later
        self.pure: dict[int, types.ModuleType] = {}  # modules whose members are not followed
        self.reading = Reading()
        self.watched: dict[tuple[int, str], object] = {}

    def place(self, space: Any, name: str, value: Any) -> None:
        """Record a value that is found in a dictionary by name."""
        if (id(space), name) not in self.watched:
            self.watched[id(space), name] = space
            self.reading.places.append((space, name, value))
            self.watch(value)

    def watch(self, value: Any) -> None:
        """Record a value that may change in place."""
        if not is_constant(value) and (id(value), "") not in self.watched:
            self.watched[id(value), ""] = value
            self.reading.changing.append((value, *contents(value)))

    def whole(self, space: Mapping[str, Any], owner: object = None) -> None:
        """Record a dictionary with all its values."""
        key = id(space if owner is None else owner), "*"
        if key not in self.watched:
            self.watched[key] = owner or space
            self.reading.spaces.append((space, tuple(space.values())))
            for name, value in space.items():
                if name not in _NOT_RUN:
                    self.watch(value)

    def follow(self) -> Reading:
        """Walk until nothing new is found."""
        try:
            self.walk()
            self.finish()
        except UntraceableError as error:
            refusal = str(error)
            if self.every_name:
                refusal = str(
                    UntraceableError(
                        f"{error} Here, getattr computes a name, which may be any",
                        fix="Read it in __init__ instead: self.function = getattr(torch, name).",
                    )
                )
            self.reading.refusal = refusal.replace("pointwise", self.entry)
        return self.reading

    def finish(self) -> None:
        """Record the members of modules that may be read by a name in the code."""
        modules = [
            *self.pure.values(),
            *(s for s in self.spaces if isinstance(s, types.ModuleType)),
        ]
        for module in modules:  # grows
            space, own = vars(module), not is_pure(module.__name__)
            for name in [*space] if self.every_name and own else self.names:
                value = space.get(name, NOTHING)
                if own or value is not NOTHING:
                    self.place(space, name, value)
                if isinstance(value, types.ModuleType) and value not in modules:
                    modules.append(value)

    def walk(self) -> None:
        """Visit values until no new ones are named."""
        while self.left:
            while self.left:
                value, called = self.left.pop()
                if id(value) not in self.seen:
                    self.seen[id(value)] = value
                    self.visit(value, called)
            for space in list(self.spaces):
                for value, called in _attributes(space, None if self.every_name else self.names):
                    if isinstance(space, Tensor):
                        raise _unfollowed(f"{called}, an attribute of a tensor")
                    if isinstance(space, types.ModuleType) and isinstance(value, types.ModuleType):
                        self.module(value, called)
                    else:
                        self.left.append((value, called))
            self.left = [(v, c) for v, c in self.left if id(v) not in self.seen]

    def visit(self, value: Any, called: str) -> None:
        """One value; its parts are left for later."""
        kind = type(value)
        if kind in _PLAIN or isinstance(value, (*_PLAIN_OF_TORCH, torch.Generator)):
            return
        if isinstance(value, (*_PLAIN, Tensor, enum.Enum, np.ndarray, np.generic)):
            self.value(value, called)
        elif kind is types.FunctionType:
            self.function(value)
        elif isinstance(value, types.BuiltinFunctionType | types.MethodWrapperType):
            self.builtin(value, called)
        elif isinstance(value, types.ModuleType):
            if not is_pure(value.__name__):
                raise _unfollowed(f"{called}, a module that is no global")
        elif isinstance(value, type):
            self.kind(value, called)
        elif kind in PARTS:
            self.left += [(getattr(value, part), called) for part in PARTS[kind]]
        elif isinstance(value, tuple | list | set | frozenset | collections.deque):
            self.left += [(part, called) for part in list(value)]
            self.value(value, called)
        elif isinstance(value, dict | types.MappingProxyType):
            self.left += [(part, called) for part in list(value.values())]
            self.value(value, called)
        elif isinstance(value, array.array):
            return
        elif kind.__module__.partition(".")[0] in ("torch", "jaxtyping", "beartype") and not (
            isinstance(value, nn.Module)
        ):
            self.of_torch(value, called)
        elif _is_followed(value):
            self.spaces.append(value)
            if isinstance(value, nn.Module) or kind.__module__ not in sys.stdlib_module_names:
                self.left.append((kind, f"the class of {called}"))
            if isinstance(value, nn.Module) and not isinstance(value, Cell):
                self.names.add("forward")
        elif not isinstance(value, _DESCRIPTORS):
            raise _unfollowed(f"{called}, of the type {kind.__module__}.{kind.__qualname__}")

    def value(self, value: Any, called: str) -> None:
        """A value or container, whose class may be a user's with attributes and methods."""
        kind = type(value)
        if isinstance(value, Tensor | np.ndarray):
            if kind.__module__.partition(".")[0] not in ("torch", "numpy"):
                raise _unfollowed(f"{called}, of the type {kind.__module__}.{kind.__qualname__}")
            if isinstance(value, Tensor) and vars(value):
                self.spaces.append(value)
        elif kind.__module__.partition(".")[0] not in sys.stdlib_module_names | {"torch", "numpy"}:
            self.spaces.append(value)
            self.left.append((kind, f"the class of {called}"))

    def function(self, function: types.FunctionType) -> None:
        """A function: if it is fixed, the functions that it wraps; else all that its code uses."""
        variables = [(c, content_of(c)) for c in function.__closure__ or ()]
        generated = function.__code__.co_filename.startswith("<@beartype")
        if is_fixed_function(function) or generated:
            if function.__module__ and function.__module__.startswith("throughtime"):
                for code in codes_of(function.__code__):  # it may call methods of a subclass
                    self.names |= {*code.co_names}
            inner = getattr(function, "__wrapped__", None)
            wrapped = [value for _, value in variables] if inner is None else [inner]
            for table in [c for c in wrapped if isinstance(c, dict | types.MappingProxyType)]:
                wrapped += table.values()
            functions = (types.FunctionType, types.MethodType, functools.partial)
            self.left += [(c, "a function") for c in wrapped if isinstance(c, functions)]
            name = function.__name__
            if (
                function.__module__
                and function.__module__.startswith("torch")
                and reads_a_mode(name)
            ):
                raise _unfollowed(f"torch.{name}")
            return
        where, reading = function.__qualname__, self.reading
        defaults, by_name = function.__defaults__, function.__kwdefaults__
        reading.functions.append((function, function.__code__, defaults, by_name))
        reading.variables.extend(variables)
        self.whole(vars(function))
        self.left += [(part, f"a default of {where}") for part in (defaults, by_name)]
        self.left += [(value, name) for name, value in vars(function).items()]
        # the attributes of a module are followed where the code names them
        values = [v for _, v in variables if v is not NOTHING]
        self.left += [
            (v, f"a variable of {where}") for v in values if not isinstance(v, types.ModuleType)
        ]
        for value in (*values, defaults, by_name):
            self.watch(value)
        free = dict(zip(function.__code__.co_freevars, (v for _, v in variables), strict=True))
        for code in codes_of(function.__code__):
            self.code(code, function, free)

    def code(
        self, code: types.CodeType, function: types.FunctionType, free: dict[str, Any]
    ) -> None:
        """The instructions of a function, or of one that is made within it."""
        where = f"in {function.__qualname__}"
        every = list(dis.get_instructions(code))
        steps = [i for i in every if i.opname not in ("CACHE", "PUSH_NULL")]
        after = {i.offset: n for i, n in itertools.pairwise(steps)}
        before: dis.Instruction | None = None
        for instruction in steps:
            target, before = before, instruction
            name, operation = instruction.argval, instruction.opname
            if operation == "IMPORT_NAME":
                if not is_pure(name):
                    raise _unfollowed(f"the module {name}, imported {where}")
                for module in [sys.modules[m] for m in _and_parents(name) if m in sys.modules]:
                    self.pure[id(module)] = module
            elif operation == "IMPORT_FROM":
                self.attribute(name, where)
            elif operation in (*_LOADS, "LOAD_DEREF", *_LOADS_OF_CLASSES):
                value = free.get(name, NOTHING)
                if operation in _LOADS:
                    value = self.global_value(function, name)
                if value is getattr or value is hasattr:
                    constant = constant_name(steps, instruction)
                    if constant is None:
                        self.every_name = True
                    else:
                        self.attribute(constant, where)
                elif value is not NOTHING:
                    self.named(value, name, after.get(instruction.offset), where)
                    if is_called(every, instruction) and is_made_by_code(value):
                        raise _unfollowed(f"an object of {name}, which is made {where}")
            elif operation in ("LOAD_ATTR", "LOAD_METHOD", "LOAD_SUPER_ATTR"):
                self.attribute(name, where)
            elif operation in ("STORE_GLOBAL", "DELETE_GLOBAL") or (
                (operation == "STORE_DEREF" and name in function.__code__.co_freevars)
                or (operation in ("STORE_ATTR", "DELETE_ATTR") and not is_own(target))
            ):
                raise UntraceableError(f"pointwise changes {name} {where}: it must be pure")

    def global_value(self, function: types.FunctionType, name: str) -> Any:
        """The value of a global, or of a builtin; `NOTHING` for a name that has none yet."""
        variables = function.__globals__
        value = variables.get(name, NOTHING)
        self.place(variables, name, value)
        if value is not NOTHING:
            return value
        built_in = variables.get("__builtins__", {})
        members = built_in if isinstance(built_in, dict) else vars(built_in)
        value = members.get(name, NOTHING)
        self.place(members, name, value)
        return value

    def attribute(self, name: str, where: str) -> None:
        """The name of an attribute that is read."""
        if name in instructions.OF_GRAPHS:
            raise _unfollowed(f".{name} of a tensor {where}")
        if name in instructions.OF_INTERPRETERS or (reads_a_mode(name) and hasattr(torch, name)):
            raise _unfollowed(f".{name} {where}")
        self.names.add(name)

    def named(self, value: Any, name: str, after: dis.Instruction | None, where: str) -> None:
        """A global, or a variable of an enclosing function."""
        self.every_name |= name in instructions.ALL_NAMES
        if not isinstance(value, types.ModuleType):
            self.left.append((value, name))
            return
        if after is None or after.opname not in ("LOAD_ATTR", "LOAD_METHOD"):
            if not is_pure(value.__name__) or value.__name__ in ("torch", "numpy"):
                raise _unfollowed(f"the module {value.__name__}, which is passed on {where}")
        elif is_pure(value.__name__):
            self.member(value, after.argval)
        else:
            self.module(value, name)

    def member(self, module: types.ModuleType, name: str) -> None:
        """A member of a module that is pure but for some of its members."""
        top = module.__name__.partition(".")[0]
        value = getattr(module, name, None)
        self.pure[id(module)] = module
        self.every_name |= name in instructions.ALL_NAMES
        if name in instructions.FILES:
            raise _unfollowed(f"a file by {module.__name__}.{name}")
        if top == "numpy" and name in instructions.SETTINGS_OF_NUMPY:
            raise _unfollowed(f"{module.__name__}.{name}")
        if top == "torch" and (reads_a_mode(name) or name in instructions.STATE_OF_TORCH):
            raise _unfollowed(f"{module.__name__}.{name}")
        if isinstance(value, types.ModuleType) and not is_pure(value.__name__):
            raise _unfollowed(f"the module {value.__name__}")

    def module(self, module: types.ModuleType, called: str) -> None:
        """A module: of a user, followed by names; of others, refused unless it is pure."""
        if is_pure(module.__name__) or id(module) in self.seen:
            return
        self.seen[id(module)] = module
        top = module.__name__.partition(".")[0]
        if top in sys.stdlib_module_names or top in ("torch", "numpy"):
            raise _unfollowed(f"the module {module.__name__}")
        if "__getattr__" in vars(module):
            raise _unfollowed(f"{called}, a module with a __getattr__")
        self.spaces.append(module)

    def builtin(self, value: Any, called: str) -> None:
        """A function that is not of Python."""
        owner = getattr(value, "__self__", None)
        name, module = value.__name__, getattr(value, "__module__", None)
        if isinstance(owner, types.ModuleType) or owner is None:
            home = owner.__name__ if owner is not None else module or "builtins"
            if (home == "builtins" and name in instructions.BLIND) or reads_a_mode(name):
                raise _unfollowed(f"{name}()")
            if not (is_pure(home) or home.startswith("torch.")):
                raise _unfollowed(f"{home}.{name}()")
        elif not isinstance(owner, type):
            self.left.append((owner, called))
        elif not is_pure(owner.__module__):
            raise _unfollowed(f"{owner.__module__}.{owner.__qualname__}.{name}()")

    def of_torch(self, value: Any, called: str) -> None:
        """An object of torch: a script function, an operator and the like."""
        if type(value).__module__.startswith(("torch.cuda", "torch.backends", "torch.distributed")):
            raise _unfollowed(f"{called}, of {type(value).__module__}")

    def kind(self, kind: type, called: str) -> None:
        """A class, whose methods and attributes are read by name."""
        top = kind.__module__.partition(".")[0]
        fixed = top in sys.stdlib_module_names or top in ("torch", "numpy")
        if kind in _BASES or (fixed and not _is_made_by_abc(kind)):
            if not is_pure(kind.__module__) and top != "torch":
                raise _unfollowed(f"{called}, the class {kind.__module__}.{kind.__qualname__}")
            if not issubclass(kind, nn.Module):
                return
        home = type(kind).__module__.partition(".")[0]
        if type(kind) not in _METACLASSES and home not in instructions.PURE:
            raise _unfollowed(f"{called}, a class with a metaclass of its own")
        self.spaces.append(kind)
        for part in _parts_of(kind):
            self.whole(vars(part), part)
        if issubclass(kind, torch.autograd.Function):
            self.names |= {"forward", "backward", "setup_context"}


def _unfollowed(what: str) -> UntraceableError:
    return UntraceableError(
        f"pointwise may read {what}, whose changes would not be seen",
        fix="Give it as an attribute of the cell, a buffer, or a stream.",
    )


def _and_parents(module: str) -> list[str]:
    """The name of a module and those of the packages around it."""
    parts = module.split(".")
    return [".".join(parts[: i + 1]) for i in range(len(parts))]


def _parts_of(kind: type) -> list[type]:
    """A class and its bases, but for those of the package and of Python."""
    return [p for p in kind.__mro__ if p not in _BASES and p.__module__ != "builtins"]


def _is_made_by_abc(kind: type) -> bool:
    """True if a class was made by a call of `type`, so that it names its metaclass's module."""
    return kind.__module__ == "abc" and kind is not abc.ABC and kind is not abc.ABCMeta


def _is_followed(value: Any) -> bool:
    """True if an object consists of its attributes, which the fingerprint compares."""
    kind = type(value)
    if isinstance(value, nn.Module | types.SimpleNamespace) or dataclasses.is_dataclass(kind):
        return True
    if kind.__module__.partition(".")[0] in sys.stdlib_module_names - {"__main__"}:
        return kind.__module__ == "argparse" and kind.__name__ == "Namespace"
    return kind.__new__ is object.__new__ or issubclass(kind, tuple | list | dict | set)


def _attributes(space: Any, names: set[str] | None) -> list[tuple[Any, str]]:
    """The attributes of an object, class or module that the code names. No property runs.

    Arguments:
        names: The names that are read; None for all.
    """

    def is_read(name: str) -> bool:
        return names is None or name in names

    if isinstance(space, type):
        return [
            (value, f"{part.__name__}.{name}")
            for part in _parts_of(space)
            for name, value in list(vars(part).items())
            if name not in _NOT_RUN and (is_read(name) or name.startswith("__"))
        ]
    called = getattr(space, "__name__", type(space).__name__)
    own = getattr(space, "__dict__", {})
    found = {name: v for name, v in list(own.items()) if is_read(name) and name not in OF_MODULES}
    if isinstance(space, nn.Module):
        for name, value in space._modules.items():
            found[name] = value
        for hooks in (space._forward_hooks, space._forward_pre_hooks):
            found |= {f"hook {number}": hook for number, hook in hooks.items()}
    for part in type(space).__mro__:
        for name, slot in list(vars(part).items()):
            if is_read(name) and type(slot) is types.MemberDescriptorType:
                found[name] = getattr(space, name, None)
    return [(value, f"{called}.{name}") for name, value in found.items()]
