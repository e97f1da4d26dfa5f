"""What `pointwise` reads is followed, or the native engine refuses it in words."""

import abc
import contextvars
import ctypes
import dataclasses
import enum
import functools
import itertools
import math
import multiprocessing
import operator
import os
import random
import re
import sys
import threading
import time
import types
import weakref
from typing import NamedTuple

import numpy as np
import pytest
import torch
from cells.library import CELLS
from torch import is_grad_enabled, nn

import throughtime as tt
from throughtime.engines.cpp.compiler import find_compiler
from throughtime.engines.trace.reading import read

settings = types.ModuleType("settings_of_someone")
settings.scale = 0.5  # type: ignore[attr-defined]
sys.modules["settings_of_someone"] = settings
SCALE = 0.5
shared = multiprocessing.Value("d", 0.5)
variable = contextvars.ContextVar("variable", default=0.5)
local = threading.local()
local.scale = 0.5
generator = np.random.default_rng(0)
counter = itertools.count()
number = ctypes.c_double(0.5)


class Reading(tt.GatedCell):
    """A cell that has its function in an attribute."""

    gates = 1

    def __init__(self, function=None, option=None):
        super().__init__(2, 3)
        self.function, self.option = function, option

    def pointwise(self, x, u, state):
        return self.function(self, (x[0] + u[0]).tanh())


def imports_inside(cell, a):
    import settings_of_someone  # pyright: ignore[reportMissingImports]

    return a * settings_of_someone.scale


def imports_a_name_inside(cell, a):
    from settings_of_someone import scale  # pyright: ignore[reportMissingImports]

    return a * scale


def hands_on(cell, a):
    return a * scale_of(settings)


def scale_of(module):
    return module.scale


def renames(cell, a):
    other = settings
    return a * other.scale


class Meta(type):
    @property
    def scale(cls):
        return SCALE


class WithMeta(metaclass=Meta):
    pass


class Environment:
    @property
    def scale(self):
        return float(os.environ.get("SCALE", "0.5"))

    def __mul__(self, other):
        return other * time.time()


class Surrogate(torch.autograd.Function):
    @staticmethod
    def forward(ctx, a):
        ctx.scale = shared.value
        return a * ctx.scale

    @staticmethod
    def backward(ctx, *gradients):
        return gradients[0] * ctx.scale


class Kind(enum.Enum):
    """With a property that reads what changes."""

    ONE = 1

    @property
    def scale(self):
        return float(os.environ.get("SCALE", "0.5"))


class Named(str):
    @property
    def scale(self):
        return shared.value


class Filled(dict):
    def __missing__(self, key):
        return shared.value


class Numbers(np.ndarray):
    @property
    def scale(self):
        return SCALE


class Made:
    def __init__(self):
        self.scale = shared.value


@dataclasses.dataclass
class MadeByDefault:
    scale: float = dataclasses.field(default_factory=lambda: shared.value)


marked = torch.ones(())
marked.scale = 0.5  # type: ignore[attr-defined]
holder = types.SimpleNamespace(module=settings)
named, filled, numbers = Named("a"), Filled(), np.ones(1).view(Numbers)
dynamic = type("Dynamic", (abc.ABC,), {"scale": property(lambda self: shared.value)})()


def closing(value):
    return lambda cell, a: a * value.get()


def imports_a_mode_inside(cell, a):
    from torch import is_grad_enabled as mode

    return a if mode() else 2 * a


def wrapped(function):
    @functools.wraps(function)
    def inner(*arguments):
        return function(*arguments)

    return inner


def unused_by_pointwise(cell):
    return os.environ, torch.is_grad_enabled()


REFUSED = {
    "a module imported inside": imports_inside,
    "a name imported inside": imports_a_name_inside,
    "gradient mode imported inside": imports_a_mode_inside,
    "getattr of a module": lambda cell, a: a * getattr(settings, "sca" + "le"),
    "a module handed on": hands_on,
    "a module renamed": renames,
    "vars of a module": lambda cell, a: a * vars(settings)["scale"],
    "globals": lambda cell, a: a * globals()["SCALE"],
    "eval": lambda cell, a: a * eval("SCALE"),
    "sys.modules": lambda cell, a: a * sys.modules["settings_of_someone"].scale,
    "the environment": lambda cell, a: a * float(os.environ.get("SCALE", "0.5")),
    "getenv": lambda cell, a: a * float(os.getenv("SCALE", "0.5")),
    "a file": lambda cell, a: a * float(open("scale").read()),  # noqa: SIM115
    "an array of a file": lambda cell, a: a * float(np.load("scale")),
    "a context variable": lambda cell, a: a * variable.get(),
    "a shared value": lambda cell, a: a * shared.value,
    "a value of a thread": lambda cell, a: a * local.scale,
    "a value of C": lambda cell, a: a * number.value,
    "the time": lambda cell, a: a * time.time(),
    "chance": lambda cell, a: a * random.random(),
    "chance of numpy": lambda cell, a: a * np.random.rand(),  # noqa: NPY002
    "a generator of numpy": lambda cell, a: a * float(generator.random()),
    "a counter": lambda cell, a: a * next(counter),
    "gradient mode": lambda cell, a: a if torch.is_grad_enabled() else 2 * a,
    "gradient mode by name": lambda cell, a: a if is_grad_enabled() else 2 * a,
    "gradient mode of an alias": lambda cell, a: a if torch._C.is_grad_enabled() else 2 * a,
    "inference mode": lambda cell, a: a if torch.is_inference_mode_enabled() else 2 * a,
    "autocast": lambda cell, a: a if torch.is_autocast_enabled("cpu") else 2 * a,
    "a default of torch": lambda cell, a: a.to(torch.get_default_dtype()),
    "threads": lambda cell, a: a * torch.get_num_threads(),
    "the seed": lambda cell, a: a * torch.initial_seed(),
    "a setting of a backend": lambda cell, a: a if torch.backends.mkldnn.enabled else 2 * a,
    "whether it is compiled": lambda cell, a: a if torch.compiler.is_compiling() else 2 * a,
    "whether a gradient is required": lambda cell, a: a if a.requires_grad else 2 * a,
    "a metaclass": lambda cell, a: a * WithMeta.scale,
    "a property": lambda cell, a: a * Environment().scale,
    "an operator": lambda cell, a: Environment() * a,
    "a function of autograd": lambda cell, a: Surrogate.apply(a),
    "a closure": closing(variable),
    "a wrapped function": wrapped(closing(variable)),
    "a decorated function": torch.enable_grad()(closing(variable)),
    "a part of a function": functools.partial(lambda other, cell, a: a * other.get(), variable),
    "a default": lambda cell, a, other=variable: a * other.get(),
    "a function within": lambda cell, a: (lambda b: b * shared.value)(a),
    "an attribute": lambda cell, a: a * cell.option.value,
    "a computed name": lambda cell, a: a * getattr(cell, "opt" + "ion").value,
    "a getter of attributes": lambda cell, a: a * operator.attrgetter("option.value")(cell),
    "a reference": lambda cell, a: a * weakref.ref(Reading)().gates,
    "a module in an attribute": lambda cell, a: a * holder.module.scale,
    "a module as a default": lambda cell, a, module=settings: a * module.scale,
    "a property of an enumeration": lambda cell, a: a * Kind.ONE.scale,
    "a property of an option": lambda cell, a, kind=Kind.ONE: a * kind.scale,
    "a property of a string": lambda cell, a, name=named: a * name.scale,
    "a missing entry": lambda cell, a, entries=filled: a * entries["scale"],
    "an array of a class of its own": lambda cell, a, n=numbers: a * n.scale,
    "an attribute of a tensor": lambda cell, a: a * marked.scale,
    "an object that is made": lambda cell, a: a * Made().scale,
    "an object that is made by default": lambda cell, a: a * MadeByDefault().scale,
    "a class that was made by a call": lambda cell, a, made=dynamic: a * made.scale,
    "gradient mode of a part": lambda cell, a: (
        a if nn.functional.torch.is_grad_enabled() else 2 * a
    ),
    "the globals of a function": lambda cell, a: a * scale_of.__globals__["SCALE"],
    "a setting of numpy": lambda cell, a: a * len(np.geterr()),
    "a function of a computed name": lambda cell, a: getattr(torch, cell.option)(a),
    "a count of calls": lambda cell, a: setattr(cell, "calls", 1) or a,
}


@pytest.mark.parametrize("way", REFUSED)
def test_refused(way) -> None:
    assert re.match(r"pointwise (may read|changes)", read(Reading(REFUSED[way], shared)).refusal)


class Changing:
    """A value that is read in one way and changed in another."""

    scale = 1.0


class Missing(dict):
    def __missing__(self, key):
        return Changing.scale


missing = Missing()
CHANGES = {
    "a function of torch": (
        lambda cell, a: torch.sin(a),
        lambda m: m.setattr(torch, "sin", torch.cos),
    ),
    "a number of math": (lambda cell, a: a * math.pi, lambda m: m.setattr(math, "pi", 2.0)),
    "a class": (lambda cell, a: a * Changing.scale, lambda m: m.setattr(Changing, "scale", 2.0)),
    "a method of a container": (
        lambda cell, a: a * missing["scale"],
        lambda m: m.setattr(Changing, "scale", 2.0),
    ),
    "a module of an enclosing function": (
        (lambda module: lambda cell, a: a * module.scale)(settings),
        lambda m: m.setattr(settings, "scale", 2.0),
    ),
    "the default dtype": (
        lambda cell, a: a * torch.tensor(1.0).element_size(),
        lambda m: torch.set_default_dtype(torch.float64),
    ),
}


@pytest.mark.skipif(isinstance(find_compiler(), str), reason="no C++ compiler")
@pytest.mark.parametrize("way", CHANGES)
def test_a_followed_change_gives_new_results(way, monkeypatch, default_dtype) -> None:
    function, change = CHANGES[way]
    layer, x = tt.Recurrent(Reading(function)), torch.ones(2, 1, 2)
    assert layer.explain(x).engine == "native"
    before = layer(x)[0]
    change(monkeypatch)
    found = layer(x)[0]
    layer.engine = "eager"
    torch.testing.assert_close(found, layer(x)[0])
    assert not torch.equal(before, found)


@pytest.fixture
def default_dtype():
    """The default dtype, which is put back."""
    before = torch.get_default_dtype()
    yield
    torch.set_default_dtype(before)


@pytest.mark.skipif(isinstance(find_compiler(), str), reason="no C++ compiler")
def test_the_reason_is_in_explain() -> None:
    choice = tt.Recurrent(Reading(lambda cell, a: a * shared.value)).explain()
    assert choice.engine == "eager"
    assert "may read shared, of the type multiprocessing" in choice.refusals["native"]
    assert "an attribute of the cell, a buffer, or a stream" in choice.refusals["native"]


def test_a_change_is_seen(monkeypatch) -> None:
    def scale(cell, a):
        return a * float(os.environ["SCALE"])

    monkeypatch.setenv("SCALE", "1")
    layer = tt.Recurrent(Reading(scale))
    before = layer(torch.ones(1, 1, 2))[0]
    monkeypatch.setenv("SCALE", "2")
    torch.testing.assert_close(layer(torch.ones(1, 1, 2))[0], 2 * before)


class Harmless(Reading):
    """Methods that `pointwise` does not call may read what they like."""

    def save(self):
        return unused_by_pointwise(self)

    @property
    def now(self):
        return time.time()


class Mode(enum.Enum):
    SOFT = "soft"
    HARD = "hard"


class Pair(NamedTuple):
    scale: float = 0.5


@dataclasses.dataclass
class Config:
    scale: float = 0.5
    mode: Mode = Mode.SOFT


pair = Pair()
HARMLESS = {
    "an option by name": lambda cell, a: (
        a * getattr(cell, "gates", 1.0) if hasattr(cell, "gates") else a
    ),
    "a named tuple": lambda cell, a, pair=pair: a * pair.scale + Pair(0.1).scale,
    "a configuration": lambda cell, a: a * Config().scale,
    "an enumeration": lambda cell, a: a if Config.mode is Mode.SOFT else -a,
    "a class": lambda cell, a: a if isinstance(cell.option, dict | Made) else -a,
    "a global": lambda cell, a: a * SCALE,
    "a module's value": lambda cell, a: a * settings.scale,
    "functions": lambda cell, a: torch.nn.functional.silu(a) * math.sqrt(2) + max(1, 2),
    "numpy": lambda cell, a: a * float(np.exp(0.5)),
    "an option": lambda cell, a: a * cell.option["scale"],
    "a module of torch": lambda cell, a: nn.Tanh()(a),
    "a block without gradients": lambda cell, a: a + torch.no_grad()(lambda b: b.sign())(a),
    "a comprehension": lambda cell, a: sum(a * i for i in range(3)),
    "an import of torch": lambda cell, a: __import_torch(a),
}


def __import_torch(a):
    import torch.nn.functional as F

    return F.relu(a)


@pytest.mark.parametrize("way", HARMLESS)
def test_harmless(way) -> None:
    assert read(Harmless(HARMLESS[way], {"scale": 0.5})).refusal is None


@pytest.mark.parametrize("name", CELLS)
def test_cells_of_the_library(name) -> None:
    cell = CELLS[name](4, 6)
    if isinstance(cell, tt.GatedCell):
        assert read(cell).refusal is None


def test_a_method_that_the_library_calls_is_followed(monkeypatch) -> None:
    code = (lambda self, x, u, state: self.squashed(x[0] + u[0])).__code__

    class Inner(tt.GatedCell):
        gates = 1
        pointwise = types.FunctionType(code, {"__name__": "throughtime.sample"})  # pyright: ignore

    class Outer(Inner):
        def squashed(self, x):
            return x.tanh() * SCALE

    Inner.pointwise.__module__ = "throughtime.sample"
    reading = read(Outer(2, 3))
    assert reading.refusal is None
    assert reading.is_current()
    monkeypatch.setitem(globals(), "SCALE", 2.0)
    assert not reading.is_current()


def test_a_member_imported_inside_is_followed(monkeypatch) -> None:
    reading = read(Reading(HARMLESS["an import of torch"]))
    assert reading.refusal is None
    assert reading.is_current()
    monkeypatch.setattr(nn.functional, "relu", torch.tanh)
    assert not reading.is_current()
