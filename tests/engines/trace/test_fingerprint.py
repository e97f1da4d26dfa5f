"""Whatever `pointwise` may read is in the fingerprint of its cell, and copies share it."""

import argparse
import collections
import copy
import dataclasses
import os
import sys
import threading
import types
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import throughtime as tt
from throughtime.cells import LSTMCell
from throughtime.core.cell import bind
from throughtime.engines.cpp import kernel
from throughtime.engines.trace import plan as plans
from throughtime.engines.trace import tracing as trace
from throughtime.engines.trace.fingerprint import fingerprint
from throughtime.engines.trace.plan import plan
from throughtime.engines.trace.program import UntraceableError
from throughtime.engines.trace.reading import read

SCALE = 0.5
TABLE = {"scale": 0.5}
settings = types.ModuleType("settings_of_a_user")
settings.scale = 0.5  # type: ignore[attr-defined]


class Defaults:
    """A class for a name space."""

    scale = 0.5


def scaled(x):
    return x * SCALE


def doubly_scaled(x):
    return (lambda y: scaled(y))(x)


class Reading(tt.GatedCell):
    """A function of x + u that has what it needs in an attribute."""

    gates = 1

    def __init__(self, option: Any = None, function: Any = None):
        super().__init__(2, 3)
        self.option, self.function = option, function

    def pointwise(self, x, u, state):
        return self.function(self, (x[0] + u[0]).tanh())


class OfGlobal(Reading):
    def pointwise(self, x, u, state):
        return SCALE * (x[0] + u[0])


class OfTable(Reading):
    def pointwise(self, x, u, state):
        return TABLE["scale"] * (x[0] + u[0])


class OfFunction(Reading):
    def pointwise(self, x, u, state):
        return doubly_scaled(x[0] + u[0])


class OfClass(Reading):
    def pointwise(self, x, u, state):
        return Defaults.scale * (x[0] + u[0])


class OfModule(Reading):
    def pointwise(self, x, u, state):
        return settings.scale * (x[0] + u[0])


class OfMethod(Reading):
    def pointwise(self, x, u, state):
        return self._scaled(x[0] + u[0])

    def _scaled(self, x):
        return scaled(x)

    @property
    def unused(self):
        return self._scaled(1)


class Mixin:
    factor = 0.5


class OfMixin(Reading, Mixin):
    def pointwise(self, x, u, state):
        return self.factor * (x[0] + u[0])


def key(cell):
    return fingerprint(cell, torch.float64)[0]


def assert_change_is_seen(cell, change) -> None:
    first, reading, before = key(cell), read(cell), plan(cell, torch.float64)
    assert key(cell) == first
    assert reading.is_current()
    assert hash(key(cell)) == hash(first)
    assert plan(cell, torch.float64) is before
    tensors = {n: torch.zeros_like(p) for n, p in cell.named_parameters()}
    assert key(bind(cell, tensors)) == first
    change()
    assert key(cell) != first or not reading.is_current()
    assert plan(cell, torch.float64) != before


@pytest.mark.parametrize(
    ("kind", "owner", "name"),
    [
        (OfGlobal, sys.modules[__name__], "SCALE"),
        (OfTable, sys.modules[__name__], "TABLE"),
        (OfFunction, sys.modules[__name__], "SCALE"),
        (OfMethod, sys.modules[__name__], "SCALE"),
        (OfModule, settings, "scale"),
        (OfClass, Defaults, "scale"),
        (OfMixin, Mixin, "factor"),
    ],
)
def test_globals_and_classes(kind, owner, name, monkeypatch) -> None:
    new = {"scale": 2.0} if name == "TABLE" else 2.0
    assert key(kind()) == key(kind())
    assert_change_is_seen(kind(), lambda: monkeypatch.setattr(owner, name, new))


class Slotted:
    __slots__ = ("__hidden", "rate", "unset")

    def __init__(self, rate):
        self.rate = rate
        self.__hidden = 1


class Plain:
    def __init__(self, rate):
        self.rate = rate

    def __call__(self, x):
        return x * SCALE * self.rate


@dataclasses.dataclass
class WithMore:
    field: int = 0

    def __post_init__(self):
        self.rate = 0.5


class Named(dict):
    """A dictionary with attributes."""


def named() -> Named:
    made = Named()
    made.rate = 0.5
    return made


@pytest.mark.parametrize(
    "make",
    [
        lambda: Slotted(0.5),
        lambda: Plain(0.5),
        WithMore,
        named,
        lambda: types.SimpleNamespace(rate=0.5),
        lambda: argparse.Namespace(rate=0.5),
    ],
)
def test_objects(make) -> None:
    cell = Reading(make(), lambda self, x: x * self.option.rate)
    assert_change_is_seen(cell, lambda: setattr(cell.option, "rate", 2.0))
    assert key(copy.deepcopy(cell)) == key(cell)
    assert key(Reading(make(), cell.function)) != key(cell)


def test_what_an_object_calls(monkeypatch) -> None:
    cell = Reading(Plain(0.5), lambda self, x: self.option(x))
    assert_change_is_seen(cell, lambda: monkeypatch.setitem(globals(), "SCALE", 2.0))


def test_arrays_and_containers() -> None:
    cell = Reading(np.array([0.5, 1]), lambda self, x: x * float(self.option[0]))
    assert key(copy.deepcopy(cell)) == key(cell)
    assert_change_is_seen(cell, lambda: cell.option.__setitem__(0, 2.0))
    for made in ([0.5] * 300, collections.deque([0.5] * 300), {0: 0.5}, bytearray(b"ab")):
        cell.option = made
        assert key(copy.deepcopy(cell)) == key(cell)
        assert_change_is_seen(cell, lambda: cell.option.__setitem__(0, 2))
    cell.option = {1, 2}
    first = key(cell)
    cell.option.add(3)
    assert key(cell) != first
    cell.option = np.array([[], [1]], dtype=object)
    first = key(cell)
    cell.option[0].append(2)
    assert key(cell) != first


def test_functions() -> None:
    rate = 0.5

    def closed(_, x):
        return x * rate

    def change() -> None:
        nonlocal rate
        rate = 2.0

    assert_change_is_seen(Reading(None, closed), change)

    def defaulted(_, x, rate=0.5, *, power=1):
        return x * rate * power

    cell = Reading(None, defaulted)
    assert_change_is_seen(cell, lambda: setattr(defaulted, "__defaults__", (2.0,)))
    assert_change_is_seen(cell, lambda: setattr(defaulted, "__kwdefaults__", {"power": 2}))
    other = (lambda _, x, rate, *, power: x + rate).__code__
    assert_change_is_seen(cell, lambda: setattr(defaulted, "__code__", other))

    def marked(_, x):
        return x * marked.rate

    marked.rate = 0.5  # type: ignore[attr-defined]
    assert_change_is_seen(Reading(None, marked), lambda: setattr(marked, "rate", 2.0))


def test_bound_functions() -> None:
    table = {"rate": 0.5}
    cell = Reading(table.get, lambda self, x: x * self.option("rate"))
    assert_change_is_seen(cell, lambda: table.update(rate=2.0))
    cell = Reading(Plain(0.5).__call__, lambda self, x: self.option(x))
    assert_change_is_seen(cell, lambda: setattr(cell.option.__self__, "rate", 2.0))


def test_modules_that_import_one_another(monkeypatch) -> None:
    modules = [types.ModuleType(name) for name in "abcd"]
    for module in modules:
        vars(module).update({other.__name__: other for other in modules}, rate=0.5)
    monkeypatch.setitem(globals(), "a", modules[0])
    cell = Reading(None, lambda _, x: x * a.b.c.d.a.b.rate)
    assert_change_is_seen(cell, lambda: setattr(modules[1], "rate", 2.0))


def test_an_unset_variable_of_a_closure() -> None:
    def late(_, x):
        return x * rate

    reading = read(Reading(None, late))
    assert reading.is_current()
    rate = 0.5
    assert not reading.is_current()


def test_decorated_functions() -> None:
    rates = [0.5]

    @torch.enable_grad()
    def function(_, x):
        return x * rates[0]

    assert_change_is_seen(Reading(None, function), lambda: rates.__setitem__(0, 2.0))


def test_hooks_of_submodules() -> None:
    cell = Reading(nn.Identity(), lambda self, x: self.option(x))
    assert_change_is_seen(
        cell, lambda: cell.option.register_forward_hook(lambda _, __, output: output * 2)
    )
    assert_change_is_seen(
        cell, lambda: cell.option.register_forward_pre_hook(lambda _, given: (given[0] * 3,))
    )
    assert key(copy.deepcopy(cell)) == key(cell)


def test_mode_of_submodules() -> None:
    cell = Reading(nn.Dropout(0.5), lambda self, x: self.option(x))
    for _ in range(2):
        cell.train()
        with pytest.raises(UntraceableError):
            plan(cell, torch.float64)
        cell.eval()
        plan(cell, torch.float64)
    cell.option.train()
    with pytest.raises(UntraceableError):
        plan(cell, torch.float64)


def test_tensors_changed_in_place() -> None:
    cell = Reading(torch.ones(3))
    first = key(cell)
    cell.option.fill_(2)
    assert key(cell) != first


def test_what_leads_back_to_itself() -> None:
    options: dict[str, Any] = {"rate": 0.5}
    options["self"] = options
    cell = Reading(options, lambda self, x: x * self.option["rate"])
    cell.itself = [cell]
    cell.bound = cell.pointwise
    assert key(cell) == key(cell)
    options["rate"] = 2.0
    first = key(cell)
    options["rate"] = 0.5
    assert key(cell) != first


def test_what_is_nested_too_deeply_is_refused() -> None:
    cell = Reading([], lambda self, x: x)
    deep = cell.option
    for _ in range(10_000):
        deep.append([])
        deep = deep[0]
    with pytest.raises(UntraceableError, match="nested too deeply"):
        plan(cell, torch.float64)


def test_cells_of_the_library_share() -> None:
    assert key(LSTMCell(2, 3)) == key(LSTMCell(2, 3))
    assert key(LSTMCell(2, 3)) != key(LSTMCell(2, 3, peepholes=True))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("module", [trace, plans, kernel])
def test_locks_are_open_in_a_forked_child(module) -> None:
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with module._lock:
            held.set()
            done.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    child = os.fork()
    if child == 0:
        os._exit(0 if module._lock.acquire(timeout=5) else 1)
    _, status = os.waitpid(child, 0)
    done.set()
    thread.join()
    assert status == 0
