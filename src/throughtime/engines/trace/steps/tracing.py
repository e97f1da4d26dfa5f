"""Tracing a cell's whole step: the recorded vectors, and what the step gives back."""

import dataclasses
from collections.abc import Sequence
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from throughtime.core.cell import Cell, advance, bind, prepare
from throughtime.core.state import map_state, state_tensors
from throughtime.engines.trace.program import UntraceableError
from throughtime.engines.trace.steps.recorder import (
    Computed,
    Counter,
    Fixed,
    Named,
    Recorder,
    Vector,
)
from throughtime.engines.trace.steps.rows import OPERATIONS_OF_ROWS
from throughtime.engines.trace.steps.views import whole
from throughtime.engines.trace.tracing import isolated

WHOLE = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
"""The dtypes of whole numbers in a state."""


@final
@dataclasses.dataclass(frozen=True, eq=False)
class StepTrace:
    """A recorded step.

    Attributes:
        vectors: The vectors, in order.
        statics: The tensors that are computed once a run.
        inputs: The widths of the input and of the streams.
        fields: The shape of each field of the state without its batch; None for whole numbers.
        after: The places of each field after the step, flat; of a field of whole numbers, its
            number and what is added.
        output: The places of the output.
    """

    vectors: Sequence[Vector]
    statics: Sequence[Named | Computed | Fixed]
    inputs: tuple[int, ...]
    fields: tuple[tuple[int, ...] | None, ...]
    after: tuple[np.ndarray | tuple[int, int], ...]
    output: np.ndarray


def trace_step(cell: Cell, dtype: torch.dtype) -> StepTrace:
    """Record the operations of a cell's step, on arbitrary numbers.

    Raises:
        UntraceableError: The step does something that a graph cannot.
    """
    if cell.supplied:
        raise UntraceableError("its state has fields of a size that each call decides")
    sizes = {1, cell.hidden_size, cell.input_size, cell.output_size}
    for tensor in (*cell.parameters(), *cell.buffers()):
        sizes |= set(tensor.shape)
    batches = [n for n in range(11, 29 + 8 * len(sizes)) if n not in sizes and _is_prime(n)]
    batches = [n for n in batches if not any(s % n == 0 for s in sizes if s)]
    cell, found, errors = _untied(cell), list[StepTrace](), list[UntraceableError]()
    for batch in batches[:3]:  # one may be the width of a sum of parts, which tells nothing
        try:
            found.append(isolated(lambda batch=batch: _traced(cell, dtype, batch)))
        except UntraceableError as error:
            errors.append(error)
        if len(errors) > 1:
            raise errors[0]
        if len(found) > 1:
            break
    first, again = found
    if _description(first) != _description(again):
        raise UntraceableError(
            "step does not do the same twice: it depends on values in Python, on the batch size, "
            "or on chance"
        )
    return first


def _untied(cell: Cell) -> Cell:
    """Return a cell in which no two names are of one tensor: its plan serves both kinds."""
    seen, copies = set[int](), dict[str, Tensor]()
    for named in (cell.named_parameters, cell.named_buffers):
        for name, tensor in named(remove_duplicate=False):
            if id(tensor) in seen:
                copies[name] = tensor.detach().clone()
            seen.add(id(tensor))
    return bind(cell, copies) if copies else cell


def _described(tensor: Tensor) -> str:
    shape = ", ".join(["batch", *map(str, tensor.shape[1:])])
    return f"its state has a tensor of shape ({shape}) and dtype {tensor.dtype}"


def _is_prime(number: int) -> bool:
    return all(number % divisor for divisor in range(2, number))


def _description(trace: StepTrace) -> str:
    """Return the operations of a trace, without the numbers of its constants' tensors."""
    parts = [str([type(v).__name__, v.width, getattr(v, "name", "")]) for v in trace.vectors]
    parts += [str(getattr(s, "function", getattr(s, "name", ""))) for s in trace.statics]
    return "\n".join(parts)


def _traced(cell: Cell, dtype: torch.dtype, batch: int) -> StepTrace:
    try:
        return _Tracing(cell, dtype, batch).trace()
    except UntraceableError:
        raise
    except Exception as error:  # whatever it is, the eager engine meets it again
        raise UntraceableError(
            f"step raised {type(error).__name__} when it was traced: {error}"
        ) from error


@final
class _Tracing:
    """One trace, on one number of sequences."""

    def __init__(self, cell: Cell, dtype: torch.dtype, batch: int):
        self.cell, self.dtype, self.batch = cell, dtype, batch
        self.recorder = Recorder(dtype, batch, OPERATIONS_OF_ROWS)
        self.generator = torch.Generator("cpu").manual_seed(batch)
        self.fields: list[tuple[int, ...] | None] = []

    def trace(self) -> StepTrace:
        """Run the step."""
        recorder, cell, batch = self.recorder, self.cell, self.batch
        for named in (cell.named_parameters, cell.named_buffers):
            for name, tensor in named(remove_duplicate=False):
                recorder.named(name, tensor)
        with torch.no_grad():
            state = map_state(
                self._field,
                cell.initial_state(batch, dtype=self.dtype, device=torch.device("cpu")),
            )
            given = [self._input(0, (batch, cell.input_size))]
            given += [self._input(1 + i, s.shape) for i, s in enumerate(self._streams())]
            # once without the recorder: what the cell computes on first use is no part of a step
            warm = prepare(cell)
            advance(warm, warm.project(given[0]), state, tuple(given[1:]))
            with recorder:
                prepared = prepare(cell)
                projected = prepared.project(given[0])
                output, after = advance(prepared, projected, state, tuple(given[1:]))
        tensors = state_tensors(after)
        if type(after) is not type(state) or len(tensors) != len(self.fields):
            raise UntraceableError("step returns a state of another form than the one it reads")
        return StepTrace(
            recorder.vectors,
            recorder.statics,
            tuple(g.shape[-1] for g in given),
            tuple(self.fields),
            tuple(self._after(i, t) for i, t in enumerate(tensors)),
            self._places(output, (cell.output_size,)),
        )

    def _field(self, tensor: Tensor) -> Tensor:
        number = len(self.fields)
        if not tensor.is_floating_point():
            if tuple(tensor.shape) != (self.batch,) or tensor.dtype not in WHOLE:
                raise UntraceableError(f"{_described(tensor)}, no whole number for each sequence")
            self.fields.append(None)
            return self.recorder.give(tensor, Counter(number, 0))
        if tensor.dtype != self.dtype or tensor.shape[0] != self.batch:
            raise UntraceableError(_described(tensor))
        if tensor.dim() < 2:
            raise UntraceableError(f"{_described(tensor)}: real numbers without an axis of units")
        self.fields.append(tuple(tensor.shape[1:]))
        return self._drawn("state", number, tensor.shape)

    def _drawn(self, source: str, number: int, shape: Sequence[int]) -> Tensor:
        drawn = torch.rand(tuple(shape), generator=self.generator, dtype=self.dtype, device="cpu")
        width = drawn[0].numel()
        symbol = whole(self.recorder.leaf(source, number, width), width, (1, *shape[1:]), 0)
        return self.recorder.give(drawn, symbol)

    def _input(self, number: int, shape: Sequence[int]) -> Tensor:
        return self._drawn("input", number, shape)

    def _streams(self) -> list[Tensor]:
        if not self.cell.streams:
            return []
        drawn = self.cell.draw_streams(
            torch.zeros(1, self.batch, dtype=torch.int64, device="cpu"),
            training=False,
            dtype=self.dtype,
            generator=torch.Generator("cpu").manual_seed(0),
        )
        streams = [s[0].expand(self.batch, *s.shape[2:]) for s in drawn]
        if any(s.dim() != 2 or s.dtype != self.dtype for s in streams):
            raise UntraceableError("it has a stream of another dtype, or with more axes than units")
        return streams

    def _after(self, number: int, tensor: Tensor) -> np.ndarray | tuple[int, int]:
        shape = self.fields[number]
        if shape is not None:
            return self._places(tensor, shape)
        known = self.recorder.known(tensor)
        if not isinstance(known, Counter) or known.field != number:
            raise UntraceableError("step computes whole numbers of the state from others")
        return known.field, known.added

    def _places(self, tensor: Any, shape: tuple[int, ...]) -> np.ndarray:
        if not isinstance(tensor, Tensor) or tuple(tensor.shape) != (self.batch, *shape):
            raise UntraceableError("step returns a tensor of another shape than (batch, width)")
        if tensor.dtype != self.dtype:
            raise UntraceableError(f"step returns a tensor of {tensor.dtype}")
        return self.recorder.symbol(tensor).places.reshape(-1)
