"""A request of any cell whose whole step can be traced: its refusal, or its run."""

import functools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from throughtime.core.cell import Cell
from throughtime.core.sequence import steps_since_reset
from throughtime.core.state import map_state, state_tensors
from throughtime.engines.cpp.steps.call import Call
from throughtime.engines.cpp.steps.kernel import StepKernel
from throughtime.engines.cpp.steps.operator import StepsOverTime
from throughtime.engines.engine import Request, Result
from throughtime.engines.recomputation import every, run_again, within
from throughtime.engines.trace.steps.tracing import WHOLE
from throughtime.engines.trace.steps.whole import WholeStep


def unfit(kernel: StepKernel, request: Request) -> str | None:
    """Return the trait of a request's tensors that a compiled step does not serve, or None."""
    plan = kernel.plan
    time, batch = request.inputs.shape[:2]
    tensors = state_tensors(request.state)
    if len(tensors) != len(plan.trace.fields):
        return "its state has other fields than the cell's initial state"
    for tensor, shape in zip(tensors, plan.trace.fields, strict=True):
        if not tensor.is_cpu:
            return f"it runs on the CPU, and this is on {tensor.device}"
        if shape is None:
            if tensor.dtype not in WHOLE or tuple(tensor.shape) != (batch,):
                return "its state has other than a whole number for each sequence"
        elif tuple(tensor.shape) != (batch, *shape):
            return f"its state has a tensor of shape {tuple(tensor.shape)}, not {(batch, *shape)}"
    for stream, width in zip(request.streams, plan.trace.inputs[1:], strict=True):
        if stream.dim() != 3 or stream.shape[0] != time or stream.shape[1] not in (1, batch):
            return f"a stream has the shape {tuple(stream.shape)}, not (time, batch, {width})"
        if stream.shape[2] != width:
            return f"a stream has the width {stream.shape[2]}, not {width}"
    return None


def run(kernel: StepKernel, request: Request) -> Result:
    """Run a request."""
    options, time = request.options, request.inputs.shape[0]
    if torch.is_grad_enabled() and not options.stores_all:
        whole = functools.partial(_run, kernel)
        if options.memory_budget is None:
            return run_again(request, every(time, options.segment(time)), whole)
        plan, size = kernel.plan, request.inputs.shape[1] * kernel.dtype.itemsize
        state = size * sum(plan.widths)
        step = size * (plan.saved + sum(plan.widths) + sum(p.width for p in plan.results[-1]))
        return run_again(request, within(time, options.memory_budget, state, step), whole)
    return _run(kernel, request)


def _run(kernel: StepKernel, request: Request) -> Result:
    plan, dtype, cell = kernel.plan, kernel.dtype, request.cell
    batch = request.inputs.shape[1]
    streams = [s.expand(-1, batch, -1) for s in request.streams]
    state = state_tensors(request.state)
    fields = [state[i].flatten(1) for i in plan.fields]
    fresh: list[Tensor] = []
    start: Sequence[Tensor] = state
    if request.resets is not None:
        like = request.state.h
        start = state_tensors(cell.initial_state(batch, dtype=dtype, device=like.device))
        fresh = [start[i].flatten(1) for i in plan.fields]
    statics = plan.tensors(_named(cell))
    parameters = [statics[n] for n, _, _ in plan.parameters]
    matrices = [statics[n] for n in plan.matrices]
    tensors = [request.inputs, *streams, *fields, *fresh, *parameters, *matrices]
    tensors = [t if t.dtype == dtype else t.to(dtype) for t in tensors]
    save = torch.is_grad_enabled() and any(t.requires_grad for t in tensors)
    states, last = request.outputs == "states", request.outputs == "last"
    histories = [states or (not last and f == plan.output) for f in range(len(fields))]
    call = Call(kernel, request.lengths, request.resets, tuple(histories), True, save)
    found = list(StepsOverTime.apply(call, *tensors))
    finals, rest = found[: len(fields)], found[len(fields) :]
    shown: list[Any] = [rest.pop(0) if wanted else None for wanted in histories]
    if plan.output is not None:
        outputs = finals[plan.output] if last else shown[plan.output]
    else:
        outputs = rest.pop(0)
        if last:
            rows = torch.arange(batch, device="cpu")
            outputs = outputs[-1 if request.lengths is None else request.lengths - 1, rows]
    counts = _counts(plan, request, state, start)
    end = _rebuilt(request, plan, finals, [c[1] for c in counts])
    if not states:
        return Result(outputs, end, None)
    return Result(outputs, end, _rebuilt(request, plan, shown, [c[0] for c in counts]))


def _named(cell: Cell) -> dict[str, Tensor]:
    named = dict(cell.named_parameters(remove_duplicate=False))
    return named | dict(cell.named_buffers(remove_duplicate=False))


def _counts(
    plan: WholeStep, request: Request, state: Sequence[Tensor], fresh: Sequence[Tensor]
) -> list[tuple[Tensor, Tensor]]:
    """Return the fields of whole numbers after every step, and after the last."""
    time, batch = request.inputs.shape[:2]
    found: list[tuple[Tensor, Tensor]] = []
    for i, shape in enumerate(plan.trace.fields):
        if shape is not None:
            continue
        _, added = plan.trace.after[i]
        ages = steps_since_reset(torch.zeros_like(state[i]), request.resets, time) + 1
        start = state[i].expand(time, batch)
        if request.resets is not None:
            start = torch.where(request.resets.cumsum(0) > 0, fresh[i], start)
        counts = (start + added * ages).to(state[i].dtype)
        rows = torch.arange(batch, device="cpu")
        last = counts[time - 1 if request.lengths is None else request.lengths - 1, rows]
        if request.lengths is not None:
            live = torch.arange(time, device="cpu")[:, None] < request.lengths
            counts = torch.where(live, counts, torch.zeros_like(counts))
        found.append((counts, last))
    return found


def _rebuilt(
    request: Request, plan: Any, fields: Sequence[Tensor], counts: Sequence[Tensor]
) -> Any:
    """Return tensors in the structure of the state."""
    real, whole, number = iter(fields), iter(counts), iter(range(len(plan.trace.fields)))

    def next_field(_: Tensor) -> Tensor:
        shape = plan.trace.fields[next(number)]
        if shape is None:
            return next(whole)
        tensor = next(real)
        return tensor if len(shape) == 1 else tensor.unflatten(-1, shape)

    return map_state(next_field, request.state)
