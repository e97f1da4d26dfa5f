"""The plans of cells, each made once, and used again while nothing that it depends on changes."""

import collections
import dataclasses
import itertools
import operator
import os
import threading
from collections.abc import Callable, Hashable
from typing import Any, TypeAlias, TypeVar, final

import torch

from throughtime.core.cell import Cell
from throughtime.core.gated import GatedCell
from throughtime.engines.trace.fingerprint import NOT_READ, fingerprint, is_constant
from throughtime.engines.trace.program import UntraceableError
from throughtime.engines.trace.reading import Reading, read
from throughtime.engines.trace.step_plan import StepPlan, plan_of
from throughtime.engines.trace.steps.tracing import trace_step
from throughtime.engines.trace.steps.trial import check_whole
from throughtime.engines.trace.steps.whole import WholeStep, plan_whole
from throughtime.engines.trace.tracing import isolated, trace
from throughtime.engines.trace.trial import check_plan

_KEPT = 256
_MOST_READINGS = 8  # of one fingerprint: a global that is set back and forth


Plan = TypeVar("Plan", StepPlan, WholeStep)
_Made: TypeAlias = tuple[Any, Reading, list[object]]
_lock = threading.Lock()
_plans: collections.OrderedDict[Hashable, tuple[_Made, ...]] = collections.OrderedDict()


def _renew_lock() -> None:
    """Make a new lock in a forked child, which has no thread that would open its parent's lock."""
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)


def plan(cell: GatedCell, dtype: torch.dtype) -> StepPlan:
    """The plan of a cell, made once for all cells that compute the same.

    A plan is used again for cells with the same fingerprint, while all else that `pointwise` may
    read is what it was.

    Raises:
        UntraceableError: `pointwise` does something that a program cannot.
    """
    recent = _recent.get((type(cell), dtype, cell.input_size, cell.hidden_size))
    if recent is not None and recent.is_of(cell):
        return recent.plan
    made, reading = _planned(cell, dtype, ("pointwise",), lambda: _made(cell, dtype))
    _glance(cell, dtype, made, reading)
    return made


def whole_plan(cell: Cell, dtype: torch.dtype) -> WholeStep:
    """The plan of a cell's whole step, made once for all cells that compute the same.

    Raises:
        UntraceableError: The step does something that a graph cannot.
    """
    return _planned(cell, dtype, _OF_STEPS, lambda: _made_whole(cell, dtype))[0]


_OF_STEPS = ("step", "project", "prepared", "initial_state", "pointwise", "constrained")


def _planned(
    cell: Cell, dtype: torch.dtype, entries: tuple[str, ...], make: Callable[[], Plan | str]
) -> tuple[Plan, Reading]:
    """A plan, made or known, and the reading of the methods that it is of."""
    described, kept = fingerprint(cell, dtype)
    key = entries, described
    with _lock:
        known = _plans.get(key, ())
        if known:
            _plans.move_to_end(key)
    made, reading = next((k[:2] for k in known if k[1].is_current()), (None, None))
    if made is None or reading is None:
        reading = read(cell, *entries)
        made = _remember(key, reading.refusal or make(), reading, kept)
    if isinstance(made, str):
        raise UntraceableError(made)
    return made, reading


@final
@dataclasses.dataclass(frozen=True, eq=False)
class _Recent:
    """The last cell of a class, a dtype and sizes, compared by the identity of its attributes.

    Attributes:
        names: Names of all attributes, also of those that are not read.
        is_read: True for each attribute that is part of the fingerprint.
        values: The attributes that are read; none of them can change in place.
        shapes: Names, shapes and dtypes of parameters and buffers.
        default: The default dtype.
        reading: The values beyond the cell that `pointwise` may read.
        plan: The plan of the cell.
    """

    names: list[str]
    is_read: list[bool]
    values: list[object]
    shapes: list[Any]
    default: torch.dtype
    reading: Reading
    plan: StepPlan

    def is_of(self, cell: GatedCell) -> bool:
        """True if a cell has the same fingerprint, found without one; the rest is read again."""
        own = vars(cell)
        return (
            [*own] == self.names
            and all(map(operator.is_, itertools.compress(own.values(), self.is_read), self.values))
            and _shapes(own) == self.shapes
            and torch.get_default_dtype() is self.default
            and self.reading.is_current()
        )


_recent: dict[tuple[type, torch.dtype, int, int], _Recent] = {}


def _glance(cell: GatedCell, dtype: torch.dtype, made: StepPlan, reading: Reading) -> None:
    """Keep a cell's plan for the next call, if its attributes cannot change in place."""
    own, default = vars(cell), torch.get_default_dtype()
    is_read = [name not in NOT_READ for name in own]
    values = [*itertools.compress(own.values(), is_read)]
    if own["_modules"] or not all(map(is_constant, values)):
        return
    if len(_recent) >= _KEPT:
        _recent.clear()
    place = type(cell), dtype, cell.input_size, cell.hidden_size
    _recent[place] = _Recent([*own], is_read, values, _shapes(own), default, reading, made)


def _shapes(own: dict[str, Any]) -> list[Any]:
    """Names, shapes and dtypes of a cell's parameters and buffers."""
    named = [*own["_parameters"].items(), *own["_buffers"].items()]
    return [(n, t if t is None else (t.shape, t.dtype)) for n, t in named]


def _remember(key: Hashable, made: Any, reading: Reading, kept: list[object]) -> Any:
    """A plan, or an equal one that is known already."""
    with _lock:
        known = _plans.get(key, ())
        made = next((other for other, _, _ in known if other == made), made)
        _plans[key] = ((made, reading, kept), *known)[:_MOST_READINGS]
        while len(_plans) > _KEPT:
            _plans.popitem(last=False)
        return made


def elementwise(cell: Cell) -> bool:
    """Return True if a cell's step is elementwise after its linear maps: its plan can be made."""
    if not isinstance(cell, GatedCell) or not cell.standard:
        return False
    try:
        plan(cell, torch.float64)
    except UntraceableError:
        return False
    return True


def _made(cell: GatedCell, dtype: torch.dtype) -> StepPlan | str:
    """A plan, or the reason why there is none."""
    try:
        made = isolated(lambda: plan_of(cell, trace(cell, dtype)))
        isolated(lambda: check_plan(made, cell, dtype))
        return made
    except UntraceableError as error:
        return str(error)


def _made_whole(cell: Cell, dtype: torch.dtype) -> WholeStep | str:
    """A plan of a whole step, or the reason why there is none."""
    try:
        made = plan_whole(trace_step(cell, dtype))
        isolated(lambda: check_whole(made, cell, dtype))
        return made
    except UntraceableError as error:
        return str(error)
