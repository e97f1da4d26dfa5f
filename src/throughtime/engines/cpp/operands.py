"""The tensors of a run: one flat list for operators, their meaning, and the check of their form."""

import itertools
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from throughtime.core.cell import recurrent_weight
from throughtime.core.errors import DeviceError, DtypeError, ShapeError
from throughtime.core.gated import GatedCell
from throughtime.core.state import State
from throughtime.engines.cpp.kernel import Kernel
from throughtime.engines.trace.step_plan import StepPlan

Shape = tuple[int, ...]

_MANY_ROWS = 12
"""Rows of a thread from which on the reading of weights, and a row more or less, do not matter."""
_CACHE = 2**20
"""Bytes of weights that a thread's cache no longer holds."""
_WAIT = 2**15
"""Bytes of weights that are multiplied by a row in the time of a wait for one thread, or so."""


class Operands(NamedTuple):
    """The tensors that a run reads, by meaning. Empty where the cell has none.

    Attributes:
        inputs: (time, batch, input).
        weights: weight_ih (gates * hidden, input), then weight_hh (gates * hidden, hidden) by lag.
        biases: bias_ih and bias_hh (gates * hidden,).
        parameters: The rows of unit parameters that are read, (hidden,) each.
        initial: h, the memories, then older outputs from the newest on, each (batch, hidden).
        streams: (time, batch, hidden) or (time, batch, 1).
    """

    inputs: Tensor
    weights: Sequence[Any]
    biases: Sequence[Any]
    parameters: Sequence[Any]
    initial: Sequence[Any]
    streams: Sequence[Any]


def gather(
    plan: StepPlan, cell: GatedCell, inputs: Tensor, state: State, streams: Sequence[Tensor]
) -> list[Tensor]:
    """Return the tensors of a cell that is bound to its weights, in the order of `Operands`.

    Of a cell in blocks (`in_blocks`) the recurrent weights have their own width.

    Arguments:
        inputs: (time, batch, input).
        streams: (time, batch or 1, ...) for each of the cell's streams.
    """
    found = [inputs, cell.weight_ih]
    for lag in plan.lags:
        blocks = in_blocks(cell)
        weight = getattr(cell, recurrent_weight(lag)) if blocks else cell.recurrent_matrix(lag)
        found.append(weight)
    for bias in (cell.bias_ih, cell.bias_hh):
        if bias is not None:
            found.append(bias)
    if plan.parameters:
        named = dict(cell.named_parameters(remove_duplicate=False))
        named |= dict(cell.named_buffers(remove_duplicate=False))
        for name, row in plan.parameters:
            unit = named[name][row] if named[name].dim() == 2 else named[name]
            found.append(unit.expand(cell.hidden_size))
    found.append(state.h)
    for name in plan.memories:
        found.append(getattr(state, name))
    found += getattr(state, "past", ())
    batch = inputs.shape[1]
    for stream in streams:
        found.append(stream if stream.shape[1] == batch else stream.expand(-1, batch, -1))
    return found


def in_blocks(cell: GatedCell) -> bool:
    """Return True if each head of a cell is run for itself, with its own units and weights."""
    return cell.heads > 1 and cell.constrained is None


def of_head(plan: StepPlan, cell: GatedCell, operands: Sequence[Tensor], head: int) -> list[Tensor]:
    """Return the operands of one head of a cell in blocks.

    Arguments:
        plan: The plan of the cell.
        cell: The cell.
        operands: The operands of all heads, as `gather` returns them.
        head: The number of the head.
    """
    heads, hidden = cell.heads, cell.hidden_size
    width = hidden // heads
    units = slice(head * width, (head + 1) * width)
    of = split(plan, operands)

    def rows(tensor: Tensor) -> Tensor:
        """The rows of the head's units, gate by gate."""
        by_head = tensor.unflatten(0, (plan.gates, heads, width))
        return by_head[:, head].flatten(0, 1)

    weights = [rows(tensor) for tensor in (*of.weights, *of.biases)]
    own = [tensor[..., units] for tensor in (*of.parameters, *of.initial)]
    streams = [t[..., units] if t.shape[-1] == hidden else t for t in of.streams]
    return [of.inputs, *weights, *own, *streams]


def split(plan: StepPlan, tensors: Sequence[Any], *, streams: bool = True) -> Operands:
    """Return the parts of a flat list by meaning.

    Arguments:
        tensors: The list, in the order of `Operands`.
        streams: If False, the list has none, as a list of gradients.
    """
    rest = iter(tensors)
    counts = [1 + len(plan.lags), 0, len(plan.parameters), len(plan.memories) + plan.depth]
    counts.append(len(plan.streams) if streams else 0)
    counts[1] = len(tensors) - 1 - sum(counts)  # the biases, of which there may be none
    return Operands(next(rest), *[list(itertools.islice(rest, count)) for count in counts])


@lru_cache(1024)
def split_units(batch: int, threads: int, weights: int) -> int:
    """Return how many threads share rows, each with units of its own; 1 if they have rows each.

    It is the number with the least estimated time of a step. Work is counted in bytes of weights
    that are multiplied by a row: threads that share rows all have work, however few rows there are,
    and each reads a part of the weights only. But they wait for each other at every step.

    Arguments:
        batch: The rows of the batch.
        threads: The threads that there are.
        weights: The bytes of all weights.
    """
    rows = -(-batch // threads)
    if threads == 1 or rows >= _MANY_ROWS:
        return 1
    read = weights if weights >= _CACHE else 0  # about as long as the products of a row
    cost = {n: (batch * weights + read) / n + _WAIT * (n - 1) for n in range(1, threads + 1)}
    best = min(cost, key=lambda n: cost[n])
    return best if cost[best] < rows * weights + read else 1


def spread(present: Sequence[Any], where: Sequence[bool]) -> list[Any]:
    """Return the given values in their places, None in the others."""
    values = iter(present)
    return [next(values) if there else None for there in where]


def check_operands(
    kernel: Kernel, operands: Sequence[Tensor], lengths: Tensor | None, ages: Tensor | None
) -> None:
    """Compare the operands of a run with the needs of its kernel.

    Arguments:
        operands: The operands, in the order of `Operands`.
        lengths: (batch,) int64.
        ages: (time, batch) int64.

    Raises:
        ShapeError, DtypeError, DeviceError: The first operand that does not fit, by name.
    """
    plan = kernel.plan
    names = _names(kernel, len(operands))
    inputs, h = operands[0], operands[names.index("state.h")]
    if inputs.dim() != 3 or inputs.shape[0] < 1:
        raise _misfit("input", inputs.shape, "(time, batch, input) of at least one step")
    if h.dim() != 2:
        raise _misfit("state.h", h.shape, "(batch, hidden)")
    time, batch, width = inputs.shape
    expected = _shapes(kernel, len(operands), time, batch, width, h.shape[1])
    found = [operand.shape for operand in operands]
    if found != expected:
        own = len(operands) - len(plan.streams)
        compare(names, found[:own], expected[:own])
        for name, shape in zip(names[own:], found[own:], strict=True):
            if shape not in ((time, batch, h.shape[1]), (time, batch, 1)):
                raise _misfit(name, shape, f"{(time, batch, h.shape[1])} or {(time, batch, 1)}")
    check_values(kernel.dtype, names, operands)
    for name, tensor, shape in (("lengths", lengths, (batch,)), ("ages", ages, (time, batch))):
        if tensor is not None:
            compare([name], [tensor.shape], [shape])
            check_values(torch.int64, [name], [tensor])


def compare(names: Sequence[str], found: Sequence[Shape], expected: Sequence[Shape]) -> None:
    """Raise ShapeError for the first shape that is not the expected one, and for their number."""
    if list(found) == list(expected):
        return
    if len(found) != len(expected):
        raise ShapeError(
            f"{names[0]} and the following" if names else "tensors of a call",
            got=f"{len(found)} tensors",
            expected=f"{len(expected)}",
        )
    for name, shape, fit in zip(names, found, expected, strict=False):
        if shape != fit:
            raise _misfit(name, shape, str(tuple(fit)))


def check_values(dtype: torch.dtype, names: Sequence[str], tensors: Sequence[Tensor]) -> None:
    """Raise DtypeError or DeviceError unless all tensors are dense, on the CPU, of this dtype."""
    for i, tensor in enumerate(tensors):
        if tensor.dtype is not dtype:
            raise DtypeError(
                names[i],
                got=f"dtype {tensor.dtype}",
                expected=f"{dtype}, that of the kernel",
                fix=f"Convert it: .to({dtype}).",
            )
        if not tensor.is_cpu:
            raise DeviceError(
                names[i], got=f"device {tensor.device}", expected="the CPU", fix="Move it: .cpu()."
            )
        if tensor.layout is not torch.strided:
            raise DtypeError(
                names[i],
                got=f"layout {tensor.layout}",
                expected="a dense tensor",
                fix="Convert it: .to_dense().",
            )


@lru_cache(256)
def _names(kernel: Kernel, count: int) -> tuple[str, ...]:
    """Return the names of so many operands, in order."""
    plan = kernel.plan
    states = len(plan.memories) + plan.depth
    least = 2 + len(plan.lags) + len(plan.parameters) + states + len(plan.streams)
    biases, most = count - least, 1 + bool(plan.lags)
    if not 0 <= biases <= most:
        raise ShapeError(
            "operands of a kernel",
            got=f"{count} tensors",
            expected=f"{least} and up to {most} biases",
        )
    return (
        "input",
        "weight_ih",
        *(f"recurrent_matrix({lag}) of {recurrent_weight(lag)}" for lag in plan.lags),
        *("bias_ih", "bias_hh")[:biases],
        *(f"row {row} of {name}" for name, row in plan.parameters),
        *(f"state.{name}" for name in ("h", *plan.memories)),
        *(f"state.past[{i}]" for i in range(plan.depth - 1)),
        *(f"stream {name}" for name in plan.streams),
    )


@lru_cache(1024)
def _shapes(
    kernel: Kernel, count: int, time: int, batch: int, width: int, hidden: int
) -> list[Shape]:
    """Return the shapes of all operands, those of streams at their full width."""
    plan = kernel.plan
    rows, states = plan.gates * hidden, len(plan.memories) + plan.depth
    fixed = 2 + len(plan.lags) + len(plan.parameters) + states + len(plan.streams)
    return [
        (time, batch, width),
        (rows, width),
        *((rows, hidden) for _ in plan.lags),
        *((rows,) for _ in range(count - fixed)),
        *((hidden,) for _ in plan.parameters),
        *((batch, hidden) for _ in range(states)),
        *((time, batch, hidden) for _ in plan.streams),
    ]


@lru_cache(256)
def names_of_results(kernel: Kernel) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the names of the gradients that a backward pass reads, and of the kept tensors."""
    kept = ("outputs", *(f"states {name}" for name in kernel.plan.memories))
    above = (*(f"final state {i}" for i in range(kernel.fields)), *kept)
    return (
        tuple(f"gradient of {name}" for name in above),
        tuple(f"kept {name}" for name in (*kept, "values", "states of segments")),
    )


def _misfit(name: str, found: Shape, expected: str) -> ShapeError:
    return ShapeError(
        name,
        got=f"shape {tuple(found)}",
        expected=expected,
        fix="Use the shape that the cell has for it, or make a cell of other sizes.",
    )
