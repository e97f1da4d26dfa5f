"""Recurrences that are written out in one forward: their loop is found on a tape, and run by steps.

The forward is recorded once. Calls that repeat, each time with the next slice of a tensor, are the
steps. What a step gets from the step before is the state.
"""

import collections
import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias, final

import torch
from torch import Tensor

from throughtime.foreign.tape import Op, Ref, Tape

Spot: TypeAlias = tuple[int, int]
"""Place of a tensor within a step: number of the call, and of the result."""

_FEWEST = 3  # steps of a loop


@final
@dataclasses.dataclass(frozen=True, eq=False)
class Loop:
    """The loop of one forward.

    Attributes:
        ops: all calls of the forward.
        start: number of the first call of the loop.
        size: number of calls of a step.
        steps: number of steps.
        step: numbers, within a step, of the calls that need the state.
        early: numbers of those that need no state, and are carried out before the loop.
        late: numbers of those that no state is made from, and are carried out after the loop.
        given: inputs of the steps: for each, the tensor of every step.
        states: the tensors that each step gets from the one before; h is the first.
        initial: tensors that the first step gets in their place.
        exports: tensors of the steps that are read after the loop, at other steps than the last.
        constants: tensors from before the loop that every step reads.
    """

    ops: tuple[Op, ...]
    start: int
    size: int
    steps: int
    step: tuple[int, ...]
    early: tuple[int, ...]
    late: tuple[int, ...]
    given: tuple[tuple[Ref, ...], ...]
    states: tuple[Spot, ...]
    initial: tuple[Ref, ...]
    exports: tuple[Spot, ...]
    constants: tuple[Ref, ...]

    def __deepcopy__(self, memo: Any) -> "Loop":
        return self

    @property
    def end(self) -> int:
        """Number of the first call behind the loop."""
        return self.start + self.size * self.steps

    def at(self, t: int, spot: Spot) -> Ref:
        """Return the place of a step's tensor on the tape."""
        return Ref(self.start + t * self.size + spot[0], spot[1])

    def early_ops(self) -> Iterator[int]:
        """Yield the numbers of the calls of the loop that are carried out before it."""
        for t in range(self.steps):
            yield from (self.start + t * self.size + j for j in self.early)

    def late_ops(self) -> Iterator[int]:
        """Yield the numbers of the calls of the loop that are carried out after it."""
        for t in range(self.steps):
            yield from (self.start + t * self.size + j for j in self.late)


def find_loops(tape: Tape, results: Sequence[Ref]) -> tuple[Loop, ...]:
    """Return the loops over time of one forward: one, or several on top of each other.

    Several are returned only if each has as many steps as the first, and starts from a state that
    the loops before have no part in.

    Arguments:
        tape: the calls of one forward.
        results: tensors that the forward returned.
    """
    loops: list[Loop] = []
    while True:
        loop = _find_loop(tape, results, loops[-1].end if loops else 0)
        if loop is None:
            return tuple(loops)
        if loops and (loop.steps != loops[0].steps or _made_from(tape.ops, loop, loops[0].start)):
            return ()
        loops.append(loop)


def _made_from(ops: Sequence[Op], loop: Loop, start: int) -> bool:
    """Return whether the first state of a loop is made from a call behind a start."""
    left, seen = [ref.op for ref in loop.initial], set[int]()
    while left:
        number = left.pop()
        if number < 0 or number in seen or ops[number].name in _BLANK:
            continue
        seen.add(number)
        refs = ops[number].refs()
        left += [ref.op for ref in (refs[:1] if ops[number].name in _AS else refs)]
    return any(number >= start for number in seen)


_BLANK = ("new_zeros", "new_ones", "new_full", "zeros_like", "ones_like", "full_like")
_AS = ("to", "type_as", "expand_as", "view_as")  # a second tensor lends its shape or dtype alone


def _find_loop(tape: Tape, results: Sequence[Ref], begin: int) -> Loop | None:
    """Return the first loop over time whose steps are alike and carry a state; None without one.

    Arguments:
        tape: the calls of one forward.
        results: tensors that the forward returned.
        begin: number of the call from which on it is sought.
    """
    kinds = _kinds_of(tape.ops)
    for positions in _slices(tape.ops, begin):
        places: set[tuple[int, int, int]] = set()
        for first, size, steps in _runs(positions):
            shifted = (_extended(kinds, first - k, size, steps, begin) for k in range(size))
            places |= {place for place in shifted if place is not None}
        loops = [_Reader(tape, *place).loop(results) for place in sorted(places)]
        found = [x for x in loops if x is not None and positions[0] >= x.start]
        if found:  # a part of a step at its ends makes a further state, and a step less
            return min(found, key=lambda x: (-x.steps, len(x.states), x.start))
    return None


def _slices(ops: Sequence[Op], begin: int) -> list[list[int]]:
    """List, for each tensor that is sliced, the numbers of the calls that first use each slice."""
    found: dict[Any, dict[Any, int]] = collections.defaultdict(dict)
    for number, op in enumerate(ops[begin:], begin):
        for ref in op.refs():
            if ref.op >= 0 and ops[ref.op].name in _DIVIDERS:
                found[ref.op].setdefault(ref.out, number)
        if op.name in ("__getitem__", "select") and isinstance(op.values[0], Ref):
            index = tuple(v for v in op.values[1:] if type(v) is int)
            if index:
                found[op.values[0]].setdefault(index, number)
    return sorted(sorted(set(each.values())) for each in found.values() if len(each) >= _FEWEST)


_DIVIDERS = ("unbind", "split", "chunk", "tensor_split")


def _runs(positions: list[int]) -> list[tuple[int, int, int]]:
    """List (first position, distance, number) of the runs of equal distances, longest first."""
    runs: list[tuple[int, int, int]] = []
    k = 0
    while k < len(positions) - 1:
        size, end = positions[k + 1] - positions[k], k + 1
        while end + 1 < len(positions) and positions[end + 1] - positions[end] == size:
            end += 1
        runs.append((positions[k], size, end - k + 1))
        k = end
    return sorted((run for run in runs if run[2] >= _FEWEST), key=lambda run: -run[2])


def _extended(
    kinds: list[int], start: int, size: int, steps: int, begin: int
) -> tuple[int, int, int] | None:
    """Return the place of all segments around a start that are alike; None if too few are."""

    def alike(one: int, other: int) -> bool:
        if min(one, other) < begin or max(one, other) + size > len(kinds):
            return False
        return kinds[one : one + size] == kinds[other : other + size]

    first = start if alike(start, start + size) else start + size
    last = first
    while alike(last, last + size):
        last += size
    while alike(first, first - size):
        first -= size
    count = (last - first) // size + 1
    return (first, size, count) if count >= _FEWEST and count >= steps - 1 else None


def _kinds_of(ops: Sequence[Op]) -> list[int]:
    """Return a number for each call, the same for calls that are alike."""
    first: dict[Any, list[int]] = collections.defaultdict(list)
    kinds: list[int] = []
    for number, op in enumerate(ops):
        same = first[op.function]
        kind = next((k for k in same if _alike(ops[k], op)), None)
        if kind is None:
            same.append(kind := number)
        kinds.append(kind)
    return kinds


def _alike(one: Op, other: Op) -> bool:
    return (
        one.function == other.function
        and one.changed == other.changed
        and one.graph == other.graph
        and len(one.values) == len(other.values)
        and all(
            isinstance(a, Ref) == isinstance(b, Ref)
            for a, b in zip(one.values, other.values, strict=True)
        )
        and one.spec == other.spec
    )


class _NoLoopError(Exception):
    """The segments are no steps of a loop."""


@final
class _Reader:
    """Reads the steps of a loop: what is the state, what are inputs, what is stored."""

    def __init__(self, tape: Tape, start: int, size: int, steps: int):
        self.ops, self.forms, self.leaves = tape.ops, tape.forms, tape.leaves
        self.start, self.size, self.steps = start, size, steps
        self.states: dict[Spot, Ref] = {}
        self.given: list[tuple[Ref, ...]] = []
        self.constants: list[Ref] = []
        self.varying: set[int] = set()  # calls with other numbers in every step
        self.pure: set[int] = set()  # calls that need no state

    def loop(self, results: Sequence[Ref]) -> Loop | None:
        """Return the loop; None if the segments are none."""
        try:
            return self._loop(results)
        except _NoLoopError:
            return None

    def _loop(self, results: Sequence[Ref]) -> Loop:
        kinds = [self._kinds(j) for j in range(self.size)]
        for spot in [s for s in self.states if self._grows(s)]:
            del self.states[spot]
        early = self._early(self.varying & self.pure)
        live = self._live(kinds) - early
        if (self.varying - self.pure) & live:
            raise _NoLoopError  # a step depends on its number
        self._read(kinds, live, early)
        if any(self._whole(refs[0]) for refs in self.given):  # as tokens, embedded in the loop
            early |= self.pure
            live -= self.pure
            self._read(kinds, live, early)
        late = {*range(self.size)} - live - early
        if not self.given or len({refs[1] for refs in self.given}) < len(self.given):
            raise _NoLoopError
        after = range(self.start + self.size * self.steps, len(self.ops))
        read = [r for number in after for r in self.ops[number].refs()]
        for t in range(self.steps):
            read += [r for j in late for r in self.ops[self.start + t * self.size + j].refs()]
        exports, finals = self._exports([*read, *results], early | late)
        shown = [s for s in self.states if s in exports or s in finals]
        h = max(shown or self.states)
        states = [h, *(s for s in self.states if s != h)]
        batch = self._shape(h)[:1]
        if not batch or any(self._shape(s)[:1] != batch for s in (*states, *exports)):
            raise _NoLoopError  # no axis of samples in front
        return Loop(
            tuple(self.ops),
            self.start,
            self.size,
            self.steps,
            tuple(sorted(live)),
            tuple(sorted(early)),
            tuple(sorted(late)),
            tuple(self.given),
            tuple(states),
            tuple(self.states[s] for s in states),
            tuple(sorted(exports)),
            tuple(self.constants),
        )

    def _shape(self, spot: Spot, t: int = 1) -> torch.Size:
        return self.forms[Ref(self.start + t * self.size + spot[0], spot[1])][0]

    def _grows(self, spot: Spot) -> bool:
        """Return whether it collects results, as out[t] = h or out = torch.cat([out, h])."""
        written = self.ops[self.start + spot[0]].name == "__setitem__"
        return written or self._shape(spot, 1) != self._shape(spot, 2)

    def _live(self, kinds: list[list[tuple[str, Any]]]) -> set[int]:
        """Return the calls that the states are made from."""
        if not self.states:
            raise _NoLoopError
        live: set[int] = set()
        left = [j for j, _ in self.states]
        while left:
            j = left.pop()
            if j in live:
                continue
            live.add(j)
            for kind, what in kinds[j]:
                if kind == "local":
                    left.append(what[0])
                elif kind == "state" and what not in self.states:
                    raise _NoLoopError  # made from what is collected
        return live

    def _kinds(self, j: int) -> list[tuple[str, Any]]:
        """Return the kind of each tensor that a call of the steps reads."""
        numbers = [self.start + t * self.size for t in range(self.steps)]
        ops = [self.ops[n + j] for n in numbers]
        kinds: list[tuple[str, Any]] = []
        pure = True
        for values in zip(*(op.values for op in ops), strict=True):
            if not isinstance(values[0], Ref):
                if any(_differ(values[0], v) for v in values[1:]):
                    self.varying.add(j)
                continue
            spots = [(r.op - n, r.out) for r, n in zip(values, numbers, strict=True)]
            before = [(r.op - n + self.size, r.out) for r, n in zip(values, numbers, strict=True)]
            if all(r == values[0] and r.op < self.start for r in values):
                kinds.append(("constant", values[0]))
            elif all(0 <= s[0] < j and s == spots[0] for s in spots):
                kinds.append(("local", spots[0]))
                pure &= spots[0][0] in self.pure
            elif all(r.op < self.start for r in values):
                if any(self._unlike(values[0], r) for r in values):
                    raise _NoLoopError
                kinds.append(("given", tuple(values)))
            elif self._carried(before[1:], values[0]):
                spot = before[1]
                if self.states.setdefault(spot, values[0]) != values[0]:
                    raise _NoLoopError
                kinds.append(("state", spot))
                pure = False
            else:
                raise _NoLoopError
        if pure and not ops[0].changed:
            self.pure.add(j)
        return kinds

    def _carried(self, before: list[Spot], first: Ref) -> bool:
        alike = all(0 <= s[0] < self.size and s == before[0] for s in before)
        return alike and first.op < self.start

    def _early(self, varying: set[int]) -> set[int]:
        """Return calls that are carried out before the loop, with those that these need."""
        early, left = set(varying), [*varying]
        while left:
            for ref in self.ops[self.start + left.pop()].refs():
                j = ref.op - self.start
                if j >= 0 and j not in early:
                    early.add(j)
                    left.append(j)
        return early

    def _unlike(self, one: Ref, other: Ref) -> bool:
        """Return whether two tensors cannot be inputs of two steps."""
        weights = other.op < 0 and isinstance(self.leaves[other.out], torch.nn.Parameter)
        return weights or self.forms[one] != self.forms[other]

    def _read(self, kinds: list[list[tuple[str, Any]]], live: set[int], early: set[int]) -> None:
        """Note the inputs and constants of the calls that the states are made from."""
        given: list[tuple[Ref, ...]] = []
        constants: list[Ref] = []
        local = [spot for spot in self.states if spot[0] in early]
        for kind, what in (each for j in sorted(live) for each in kinds[j]):
            if kind == "constant":
                constants.append(what)
            elif kind == "given":
                given.append(what)
            elif kind == "local" and what[0] in early:
                local.append(what)
        for j, out in local:
            steps = range(self.steps)
            given.append(tuple(Ref(self.start + t * self.size + j, out) for t in steps))
        self.given, self.constants = [*dict.fromkeys(given)], [*dict.fromkeys(constants)]

    def _whole(self, ref: Ref) -> bool:
        """Return whether a tensor holds whole numbers."""
        dtype = self.forms[ref][1]
        return not dtype.is_floating_point and dtype is not torch.bool

    def _exports(self, refs: list[Ref], apart: set[int]) -> tuple[set[Spot], set[Spot]]:
        """Return the tensors of steps that are read behind the loop, and states at its end."""
        read: dict[Spot, set[int]] = collections.defaultdict(set)
        for ref in refs:
            number = ref.op - self.start
            if 0 <= number < self.size * self.steps and number % self.size not in apart:
                read[number % self.size, ref.out].add(number // self.size)
        last = {self.steps - 1}
        finals = {spot for spot, steps in read.items() if steps == last and spot in self.states}
        return {spot for spot in read if spot not in finals}, finals


def _differ(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor) or isinstance(other, Tensor):
        return one is not other
    try:
        return bool(one != other)
    except Exception:  # noqa: BLE001 what an argument of any class raises when it is compared
        return one is not other
