"""The code of functions: the names that it loads, and the modules and names that are harmless."""

import dataclasses
import dis
import enum
import sys
import types
from collections.abc import Iterator
from typing import Any


def words(text: str) -> frozenset[str]:
    """The words of a text."""
    return frozenset(text.split())


# Modules whose functions depend on their arguments alone. Of torch, those parts that compute.
PURE = words(
    """math cmath operator _operator functools _functools itertools typing typing_extensions types
    collections abc dataclasses enum numbers fractions string copy builtins numpy contextlib
    jaxtyping beartype throughtime torch"""
)
_PARTS = words(
    """torch.nn torch.nn.functional torch.special torch.linalg torch.fft torch.autograd torch.jit
    torch.autograd.function torch.nn.modules torch.nn.init torch.nn.utils torch._C._nn
    torch._C._special torch.types torch.overrides torch.functional torch._refs"""
)
STATE_OF_TORCH = words("seed initial_seed default_generator compiler distributed")
OF_GRAPHS = words(
    """requires_grad grad_fn is_leaf grad retains_grad is_inference data_ptr untyped_storage storage
    _version"""
)
BLIND = words(
    """globals locals vars eval exec open input __import__ compile id dir breakpoint setattr delattr
    memoryview"""
)
OF_INTERPRETERS = words("__globals__ __builtins__ f_globals f_locals f_builtins gi_frame")
ALL_NAMES = words("getattr hasattr attrgetter methodcaller vars")
FILES = words("load fromfile loadtxt genfromtxt memmap from_file")
SETTINGS_OF_NUMPY = words("geterr geterrcall get_printoptions getbufsize")
_PREDICATES = words(
    """is_tensor is_floating_point is_complex is_nonzero is_signed is_conj is_neg is_same_size
    is_storage"""
)


def reads_a_mode(name: str) -> bool:
    """True if a function of torch, by its name, returns a mode or a setting."""
    if name in _PREDICATES:
        return False
    return name.startswith(("is_", "get_", "are_", "_is_", "_get_")) or name in (
        "initial_seed",
        "seed",
    )


def is_pure(module: str) -> bool:
    """True if a module's functions depend on their arguments alone, with the exceptions above."""
    if module in PURE or module in _PARTS:
        return True
    top = module.partition(".")[0]
    if top == "numpy":
        return not module.startswith("numpy.random")
    return (top in PURE and top != "torch") or module.startswith("torch.nn.modules")


_FIXED = frozenset(sys.stdlib_module_names) | {"torch", "numpy", "jaxtyping", "beartype"}
_FIXED |= {"throughtime"}


def is_fixed_function(function: types.FunctionType) -> bool:
    """True if a function is of Python, torch, numpy or this package: its code is not followed."""
    module = function.__globals__.get("__name__")
    return isinstance(module, str) and module.partition(".")[0] in _FIXED


def codes_of(code: types.CodeType) -> Iterator[types.CodeType]:
    """A function's code and that of the functions that it makes."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from codes_of(constant)


def is_own(target: dis.Instruction | None) -> bool:
    """True if an instruction loads a variable of the function itself, other than the cell."""
    if target is None or not target.opname.startswith("LOAD_FAST"):
        return False
    name = target.argval[-1] if isinstance(target.argval, tuple) else target.argval
    return name != "self"


def constant_name(instructions: list[dis.Instruction], call: dis.Instruction) -> str | None:
    """The name in `getattr(variable.attribute, "name", default)`; None for other forms of it."""
    rest = [i for i in instructions if i.offset > call.offset and i.opname != "PRECALL"]
    place = 1
    if not rest or not _pushes_one(rest[0]):
        return None
    while rest[place].opname == "LOAD_ATTR":
        place += 1
    name, place = rest[place], place + 1
    if name.opname != "LOAD_CONST" or not isinstance(name.argval, str):
        return None
    has_default = _pushes_one(rest[place]) or rest[place].opname.startswith(
        ("LOAD_CONST", "LOAD_SMALL_INT")
    )
    end = rest[place + has_default]
    return name.argval if end.opname == "CALL" and end.arg == 2 + has_default else None


def _pushes_one(instruction: dis.Instruction) -> bool:
    """True if an instruction loads one variable of a function."""
    return instruction.opname.startswith(("LOAD_FAST", "LOAD_DEREF")) and isinstance(
        instruction.argval, str
    )


def is_called(instructions: list[dis.Instruction], load: dis.Instruction) -> bool:
    """True if a name is loaded in order to be called."""
    if load.opname == "LOAD_GLOBAL":
        return bool((load.arg or 0) & 1)
    opnames = [i.opname for i in instructions]
    near = instructions.index(load) + (1 if sys.version_info >= (3, 13) else -1)
    return opnames[near] == "PUSH_NULL"


def is_made_by_code(value: Any) -> bool:
    """True if a class of a user runs code of its own when an object of it is made."""
    if not isinstance(value, type) or issubclass(value, enum.Enum | BaseException):
        return False
    if dataclasses.is_dataclass(value) and not hasattr(value, "__post_init__"):
        missing = dataclasses.MISSING
        return any(f.default_factory is not missing for f in dataclasses.fields(value))
    return any(
        isinstance(made := getattr(value, name), types.FunctionType)
        and not is_fixed_function(made)
        and not made.__globals__.get("__name__", "").startswith("namedtuple_")
        for name in ("__init__", "__new__")
    )
