"""The plan of a step: its program, the values that it saves, and the program of its gradient."""

import collections
import dataclasses
import functools
import math
from collections.abc import Collection, Sequence
from typing import final

from throughtime.core.gated import GatedCell
from throughtime.engines.trace.builder import Builder, ancestors
from throughtime.engines.trace.program import Key, Node, Program, UntraceableError
from throughtime.engines.trace.tracing import Trace, unit_tensors
from throughtime.engines.trace.trial import is_derived

_MOST_RESULTS = 62  # a bit each
_UNBOUNDED = 1 << 30


@final
@dataclasses.dataclass(frozen=True)
class Accumulator:
    """A sum of linear maps that `pointwise` reads.

    Attributes:
        gate: The gate, whose rows of the weights it uses.
        of_input: If True, it includes the map of the input.
        of_past: If True, it includes the maps of past outputs.
    """

    gate: int
    of_input: bool
    of_past: bool


@final
@dataclasses.dataclass(frozen=True)
class StepPlan:
    """Everything that an engine needs to run a cell; it holds no tensors.

    Attributes:
        gates: The number of row blocks of the weights.
        lags: The lags of the cell.
        memories: The memories of the cell.
        streams: The streams of the cell.
        accumulators: The sums of the input alone, of both, and of the past alone, by gate each.
        parameters: Names and rows of the unit parameters and buffers that are read.
        parameter_gradients: The entries of `parameters` that have a gradient.
        pasts: The delays, from 2 on, of the past outputs that `pointwise` itself reads.
        reads_h: If True, `pointwise` itself reads the last output.
        forward: A program that yields h, the memories, then the values to save, from inputs of the
            kinds gate, state, past, stream and parameter.
        backward: A program that yields the gradients of the accumulators, of the memories before
            the step, of h_{t-1} where `reads_h`, of `pasts`, and of `parameter_gradients`, of these
            for each sequence. It reads saved, state, past, stream, parameter, result, cotangent and
            present.
        inference: `forward` without the values to save.
        derived: If True, `backward` is the derivative of `inference`, so that second derivatives
            may be taken of it. False for example if `pointwise` detaches a value.
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

    @functools.cached_property
    def depth(self) -> int:
        """The number of past outputs in the state."""
        return max(self.lags, default=1)

    @property
    def reach(self) -> list[int]:
        """The results of a step through which a gradient reaches each part of the state before it.

        The parts are the past outputs from the newest on, then the memories. The results are bits,
        h the lowest, then the memories.
        """
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


def plan_of(cell: GatedCell, traced: Trace) -> StepPlan:
    """The plan of a cell that was traced."""
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
    """The positions of the values to save, and the program of the gradients that reads them."""
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


def values_to_save(nodes: Sequence[Node], wanted: Collection[int], kept: set[int]) -> list[int]:
    """The fewest values that separate the gates, which are not kept, from the wanted values.

    A minimum cut: each value costs one, masks cannot be saved, and values that are kept anyway cost
    nothing. Of several cuts it is the one nearest to the wanted values, which leaves the least to
    compute again.

    Arguments:
        nodes: The nodes of the step; its inputs but for the gates are known.
        wanted: The positions of the values that the gradient reads.
        kept: The positions of the values that are known without being saved.

    Returns:
        Positions in order; some may be kept ones.
    """
    known = {i: node.key is not None and node.key.kind != "gate" for i, node in enumerate(nodes)}
    order = [i for i in sorted(ancestors(nodes, wanted)) if nodes[i].constant is None]
    source, sink = ("source", 0), ("sink", 0)
    capacity: dict[tuple[str, int], dict[tuple[str, int], int]] = {source: {}, sink: {}}

    def connect(start: tuple[str, int], end: tuple[str, int], by: int) -> None:
        capacity.setdefault(start, {})[end] = by
        capacity.setdefault(end, {}).setdefault(start, 0)

    for i in order:
        if known[i]:
            continue
        cost = 0 if i in kept else _UNBOUNDED if nodes[i].kind == "mask" else 1
        connect(("in", i), ("out", i), cost)
        if nodes[i].key is not None:
            connect(source, ("in", i), _UNBOUNDED)
        for argument in nodes[i].arguments:
            if nodes[argument].constant is None and not known[argument]:
                connect(("out", argument), ("in", i), _UNBOUNDED)
        if i in wanted:
            connect(("out", i), sink, _UNBOUNDED)

    while path := _path(capacity, source, sink):
        # every path from a gate passes the gate itself, which costs one at most
        for start, end in path:
            capacity[start][end] -= 1
            capacity[end][start] += 1
    near = _reaching(capacity, sink)
    return [i for i in order if ("out", i) in near and ("in", i) not in near]


def _path(
    capacity: dict[tuple[str, int], dict[tuple[str, int], int]],
    source: tuple[str, int],
    sink: tuple[str, int],
) -> list[tuple[tuple[str, int], tuple[str, int]]]:
    """The steps of a shortest path with capacity left, or none."""
    before, front = {source: source}, [source]
    while front and sink not in before:
        ahead: list[tuple[str, int]] = []
        for place in front:
            for after, left in capacity[place].items():
                if left and after not in before:
                    before[after] = place
                    ahead.append(after)
        front = ahead
    if sink not in before:
        return []
    steps, place = [], sink
    while place != source:
        steps.append((before[place], place))
        place = before[place]
    return steps


def _reaching(
    capacity: dict[tuple[str, int], dict[tuple[str, int], int]], sink: tuple[str, int]
) -> set[tuple[str, int]]:
    """The places from which the sink can be reached with the capacity that is left."""
    found, left = {sink}, [sink]
    while left:
        place = left.pop()
        for before in capacity[place]:  # every edge has its reverse
            if before not in found and capacity[before][place]:
                found.add(before)
                left.append(before)
    return found


def sources(program: Program, names: Sequence[str]) -> list[int]:
    """The set of results, as bits, on whose gradients each node depends.

    Arguments:
        names: The names of the results in the order of their bits: "h", then the memories.
    """
    found: list[int] = []
    for node in program.nodes:
        if node.key is not None and node.key.kind == "cotangent":
            found.append(1 << names.index(node.key.name))
        else:
            bits = 0
            for argument in node.arguments:
                bits |= found[argument]
            found.append(bits)
    return found


def guarded(program: Program, names: Sequence[str]) -> Program:
    """An equal program in which every value that depends on absent gradients alone is zero.

    Autograd follows only the paths that a gradient comes along. A program computes all gradients at
    once, from zeros where there is none; and zero times an infinite derivative is not a number.

    Arguments:
        program: A program of gradients, each of which depends on the gradients of the results.

    Returns:
        A program that reads which results have a gradient, as inputs of the kind "present". It must
        not run for a step where all are absent.
    """
    bits, nodes = sources(program, names), program.nodes
    every, nothing = (1 << len(names)) - 1, _zero_of_zero(nodes, bits)
    builder = Builder()
    builder.of_gradient = True
    zero = builder.constant(0)
    place: list[int] = []

    def read(i: int, reader: int) -> int:
        """A value for a reader that depends on the gradients of `reader`."""
        if bits[i] in (0, reader) or i in nothing or nodes[i].kind != "real":
            return place[i]
        present = builder.add("ne", builder.input(Key("present", "", bits[i])), zero)
        return builder.add("where", present, place[i], zero)

    for i, node in enumerate(nodes):
        if node.key is not None:
            place.append(builder.input(node.key))
        elif node.constant is not None:
            place.append(builder.constant(node.constant))
        else:
            place.append(builder.add(node.operation, *(read(a, bits[i]) for a in node.arguments)))
    return builder.program([read(i, every) for i in program.outputs])


def _zero_of_zero(nodes: Sequence[Node], bits: Sequence[int]) -> set[int]:
    """The nodes that are zero wherever the gradients that they depend on are zero."""
    found: set[int] = set()

    def vanishes(i: int) -> bool:
        return i in found or nodes[i].constant == 0

    def is_finite(i: int) -> bool:
        constant = nodes[i].constant
        return constant is not None and math.isfinite(constant)

    for i, node in enumerate(nodes):
        arguments = node.arguments
        if not bits[i]:
            continue
        match node.operation:
            case "input":
                zero = True
            case "neg" | "add" | "sub":
                zero = all(map(vanishes, arguments))
            case "mul":
                a, b = arguments
                zero = (vanishes(a) and is_finite(b)) or (vanishes(b) and is_finite(a))
            case "where":
                zero = not bits[arguments[0]] and all(map(vanishes, arguments[1:]))
            case _:
                zero = False
        if zero:
            found.add(i)
    return found
