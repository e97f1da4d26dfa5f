"""The plan of a cell: what a step computes, what it saves, and what its gradient computes."""

import collections
import dataclasses
import functools
import itertools
import operator
import os
import threading
from collections.abc import Hashable, Sequence
from typing import Any, TypeAlias, final

import torch

from throughtime.core.gated import GatedCell
from throughtime.engines.trace.derivation import is_derived
from throughtime.engines.trace.fingerprint import NOT_READ, fingerprint, is_constant
from throughtime.engines.trace.presence import guarded, sources
from throughtime.engines.trace.program import Key, Node, Program, UntraceableError
from throughtime.engines.trace.reading import Reading, read
from throughtime.engines.trace.saving import values_to_save
from throughtime.engines.trace.simplify import Builder, ancestors
from throughtime.engines.trace.tracing import Trace, isolated, trace, unit_tensors
from throughtime.engines.trace.trial import check_plan

_KEPT = 256
_MOST_READINGS = 8  # of one fingerprint: a global that is set back and forth
_MOST_RESULTS = 62  # a bit each


@final
@dataclasses.dataclass(frozen=True)
class Accumulator:
    """A sum of linear maps that `pointwise` reads.

    Attributes:
        gate: whose rows of the weights it has.
        of_input: whether the input's map is in it.
        of_past: whether the maps of past outputs are in it.
    """

    gate: int
    of_input: bool
    of_past: bool


@final
@dataclasses.dataclass(frozen=True)
class StepPlan:
    """What an engine must know of a cell to run it; it holds no tensors.

    Attributes:
        gates: how many row blocks the weights have.
        lags: as the cell's.
        memories: as the cell's.
        streams: as the cell's.
        accumulators: those of the input alone, of both, and of the past alone, by gate each.
        parameters: names and rows of the unit parameters and buffers that are read.
        parameter_gradients: those of them that have a gradient.
        pasts: the delays, from 2 on, of the past outputs that `pointwise` itself reads.
        reads_h: whether `pointwise` itself reads the last output.
        forward: yields h, the memories, then the values to save, from inputs of the kinds gate,
            state, past, stream and parameter.
        backward: yields the gradients of the accumulators, of the memories before the step, of
            h_{t-1} where `reads_h`, of `pasts`, and of `parameter_gradients`, of these for each
            sequence. It reads saved, state, past, stream, parameter, result, cotangent and
            present.
        inference: `forward` without the values to save.
        derived: whether `backward` is what torch derives from `inference`, so that second
            derivatives may be taken of it; not so where `pointwise` detaches a value, say.
    """

    gates: int
    lags: tuple[int, ...]
    memories: tuple[str, ...]
    streams: tuple[str, ...]
    accumulators: tuple[Accumulator, ...]
    parameters: tuple[tuple[str, int], ...]
    parameter_gradients: tuple[tuple[str, int], ...]
    pasts: tuple[int, ...]
    reads_h: bool
    forward: Program
    backward: Program
    inference: Program
    derived: bool = True

    def __hash__(self) -> int:
        return self._hash

    @functools.cached_property
    def _hash(self) -> int:
        return hash(tuple(getattr(self, field.name) for field in dataclasses.fields(self)))

    @property
    def depth(self) -> int:
        """How many past outputs the state holds."""
        return max(self.lags, default=1)

    @property
    def reach(self) -> list[int]:
        """For each past output from the newest on, then each memory before a step: by which results
        of the step a gradient reaches it, as bits, h the lowest, then the memories."""
        found = sources(self.backward, ("h", *self.memories))
        bits = iter([found[i] for i in self.backward.outputs])
        of_past = 0
        for accumulator in self.accumulators:
            of_past |= next(bits) * accumulator.of_past
        memories = [next(bits) for _ in self.memories]
        outputs = [of_past * (delay in self.lags) for delay in range(1, self.depth + 1)]
        for delay in (*([1] if self.reads_h else []), *self.pasts):
            outputs[delay - 1] |= next(bits)
        return [*outputs, *memories]


_Made: TypeAlias = tuple[StepPlan | str, Reading, list[object]]
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

    Arguments:
        cell: The cell, whose tensors may hold anything.
        dtype: float32 or float64.

    Raises:
        UntraceableError: `pointwise` does something that a program cannot.
    """
    recent = _recent.get((type(cell), dtype, cell.input_size, cell.hidden_size))
    if recent is not None and recent.is_of(cell):
        return recent.plan
    key, kept = fingerprint(cell, dtype)
    with _lock:
        known = _plans.get(key, ())
        if known:
            _plans.move_to_end(key)
    made, reading = next((k[:2] for k in known if k[1].is_current()), (None, None))
    if made is None or reading is None:
        reading = read(cell)
        made = _remember(key, reading.refusal or _made(cell, dtype), reading, kept)
    if isinstance(made, str):
        raise UntraceableError(made)
    _glance(cell, dtype, made, reading)
    return made


@final
@dataclasses.dataclass(frozen=True, eq=False)
class _Recent:
    """The last cell of a class, a dtype and sizes, as a look at identities alone can tell it."""

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


def _remember(
    key: Hashable, made: StepPlan | str, reading: Reading, kept: list[object]
) -> StepPlan | str:
    """A plan, or an equal one that is known already."""
    with _lock:
        known = _plans.get(key, ())
        made = next((other for other, _, _ in known if other == made), made)
        _plans[key] = ((made, reading, kept), *known)[:_MOST_READINGS]
        while len(_plans) > _KEPT:
            _plans.popitem(last=False)
        return made


def _made(cell: GatedCell, dtype: torch.dtype) -> StepPlan | str:
    """A plan, or the reason why there is none."""
    try:
        made = isolated(lambda: plan_of(cell, trace(cell, dtype)))
        isolated(lambda: check_plan(made, cell, dtype))
        return made
    except UntraceableError as error:
        return str(error)


def plan_of(cell: GatedCell, traced: Trace) -> StepPlan:
    """The plan of a cell that was traced.

    Arguments:
        cell: that was traced.
        traced: what it does.
    """
    builder, accumulators, place = _with_accumulators(cell, traced)
    results = [place[i] for i in traced.results]
    gradients = {key: place[i] for key, i in traced.gradients.items()}
    zero = builder.constant(0)

    live = ancestors(builder.nodes, [*results, *gradients.values()])
    read = {key for i in live if (key := builder.nodes[i].key) is not None}
    rows = [
        (name, row)
        for name, tensor in unit_tensors(cell).items()
        for row in range(tensor.shape[0] if tensor.dim() == 2 else 1)
    ]
    parameters = tuple(p for p in rows if Key("parameter", *p) in read)
    parameter_gradients = tuple(p for p in parameters if Key("parameter", *p) in gradients)
    pasts = tuple(sorted(key.index for key in read if key.kind == "past"))
    reads_h = Key("state", "h") in read

    wanted = [gradients.get(_source(a), zero) for a in accumulators]
    sources = [Key("state", m) for m in cell.memories]
    sources += [Key("state", "h")] if reads_h else []
    sources += [Key("past", "", d) for d in pasts]
    sources += [Key("parameter", *p) for p in parameter_gradients]
    wanted += [gradients.get(source, zero) for source in sources]

    names = ("h", *cell.memories)
    if len(names) > _MOST_RESULTS:
        raise UntraceableError(f"the cell has more than {_MOST_RESULTS - 1} memories")
    saved, backward = _backward(builder.nodes, results, wanted, names)
    forward = builder.program([*results, *saved])
    gates = [Key("gate", "", i) for i in range(len(accumulators))]
    return StepPlan(
        gates=len(cell.gate_names),
        lags=cell.lags,
        memories=cell.memories,
        streams=cell.streams,
        accumulators=accumulators,
        parameters=parameters,
        parameter_gradients=parameter_gradients,
        pasts=pasts,
        reads_h=reads_h,
        forward=forward,
        backward=guarded(backward, names),
        inference=builder.program(results),
        derived=not traced.detached and is_derived(forward, backward, names, [*gates, *sources]),
    )


def _source(accumulator: Accumulator) -> Key:
    """The traced input whose gradient is that of an accumulator."""
    return Key("x" if accumulator.of_input else "u", "", accumulator.gate)


def _with_accumulators(
    cell: GatedCell, traced: Trace
) -> tuple[Builder, tuple[Accumulator, ...], dict[int, int]]:
    """The traced values with accumulators in place of gates, and where each value went."""
    nodes = traced.nodes
    live = ancestors(nodes, [*traced.results, *traced.gradients.values()])
    at = {key: i for i in live if (key := nodes[i].key) is not None}
    users: dict[int, set[int]] = collections.defaultdict(set)
    for i in live:
        for argument in nodes[i].arguments:
            users[argument].add(i)

    found: dict[Accumulator, int] = {}
    for gate in range(len(cell.gate_names)):
        keys = Key("x", "", gate), Key("u", "", gate)
        x, u = (at.get(key) for key in keys)
        total = _only_sum(nodes, users, x, u) if traced.results.count(x) == 0 else None
        same = traced.gradients.get(keys[0]) == traced.gradients.get(keys[1])
        if total is not None and same and u not in traced.results:
            found[Accumulator(gate, True, True)] = total
            continue
        if x is not None:
            found[Accumulator(gate, True, False)] = x
        if u is not None:
            found[Accumulator(gate, False, True)] = u
    order = sorted(found, key=lambda a: (a.of_past + (not a.of_input), a.gate))

    builder = Builder()
    given = {found[a]: builder.input(Key("gate", "", i)) for i, a in enumerate(order)}
    place = builder.copy(nodes, traced.results, given)
    builder.of_gradient = True
    place = builder.copy(nodes, traced.gradients.values(), place)
    return builder, tuple(order), place


def _only_sum(
    nodes: Sequence[Node], users: dict[int, set[int]], x: int | None, u: int | None
) -> int | None:
    """The position of x + u if that is all that x and u are used for."""
    if x is None or u is None or users[x] != users[u] or len(users[x]) != 1:
        return None
    (total,) = users[x]
    node = nodes[total]
    return total if node.operation == "add" and set(node.arguments) == {x, u} else None


def _backward(
    nodes: Sequence[Node], results: Sequence[int], wanted: Sequence[int], names: Sequence[str]
) -> tuple[list[int], Program]:
    """Which values to save, and the program of the gradients that reads them."""
    needed = ancestors(nodes, wanted)
    late: set[int] = set()  # what depends on the gradients of the results
    for i in sorted(needed):
        key = nodes[i].key
        if (key is not None and key.kind == "cotangent") or late.intersection(nodes[i].arguments):
            late.add(i)
    read = {a for i in late for a in nodes[i].arguments} | set(wanted)
    computed = {
        i: Key("result", name)
        for i, name in reversed(list(zip(results, names, strict=True)))
        if nodes[i].arguments
    }
    cut = values_to_save(nodes, read - late, set(computed))
    saved = [i for i in cut if i not in computed]

    builder = Builder()
    builder.of_gradient = True
    given = {i: builder.input(key) for i, key in computed.items()}
    given |= {i: builder.input(Key("saved", "", n)) for n, i in enumerate(saved)}
    place = builder.copy(nodes, wanted, given)
    return saved, builder.program(place[i] for i in wanted)
