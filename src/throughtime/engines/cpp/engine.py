"""The native engine: a cell's whole sequence as one kernel of generated C++, on the CPU."""

import functools
import os
import warnings
import weakref
from collections.abc import Sequence
from typing import Any, final

import torch
from torch import Tensor

from throughtime.core.capture import transformed
from throughtime.core.cell import Cell
from throughtime.core.gated import GatedCell
from throughtime.core.sequence import steps_since_reset
from throughtime.core.state import State, state_tensors
from throughtime.engines.cpp.building import CompilationError
from throughtime.engines.cpp.cache import CacheFolderError
from throughtime.engines.cpp.compiler import search
from throughtime.engines.cpp.kernel import Kernel, kernel_for
from throughtime.engines.cpp.operands import gather, in_blocks, of_head
from throughtime.engines.cpp.operators import sequence
from throughtime.engines.cpp.steps import engine as steps
from throughtime.engines.cpp.steps.kernel import StepKernel, compile_whole
from throughtime.engines.engine import (
    Engine,
    Refusal,
    Request,
    Result,
    Runner,
    autocasts,
)
from throughtime.engines.recomputation import (
    kept_by_segments,
    run_again,
    segment_that_keeps_least,
    within,
)
from throughtime.engines.trace.plan import plan, whole_plan
from throughtime.engines.trace.program import UntraceableError
from throughtime.engines.trace.step_plan import StepPlan
from throughtime.engines.trace.steps.whole import WholeStep

MOST_KERNELS = 64
"""The most kernels of one class in a process: each takes a moment to compile, and stays loaded."""

_MOST_KNOWN = 256
_SERVED = (torch.float32, torch.float64)
# by the address of the plan, beside the plan itself: equal plans of a process are one object
_known: dict[tuple[int, torch.dtype], tuple[StepPlan, Kernel]] = {}
_compiled: weakref.WeakKeyDictionary[type, set[StepPlan]] = weakref.WeakKeyDictionary()
_wholes: dict[tuple[WholeStep, torch.dtype], StepKernel] = {}
_compiled_wholes: weakref.WeakKeyDictionary[type, set[str]] = weakref.WeakKeyDictionary()
_warned: set[str] = set()


@final
class NativeEngine(Engine):
    """Compiles a cell's step and its gradient into a kernel for whole sequences.

    Of a gated cell it compiles `pointwise`. Of any other cell it compiles the whole step: linear
    maps, elementwise functions, and reductions over units. It serves float32 and float64 on the
    CPU, where there is a C++ compiler. Under autocast it computes in float32.
    """

    name = "native"

    def prepare(self, request: Request) -> Runner | Refusal:
        """Refuse captured calls, transforms, untraceable steps, devices and dtypes."""
        if request.captured is not None:
            return Refusal(f"{request.captured}, and its kernels are of this process")
        casting = torch._C._is_any_autocast_enabled() and autocasts(request.inputs)
        reason = transformed() or _misplaced(request, casting)
        if reason is not None:
            return Refusal(reason)
        dtype = torch.float32 if casting else request.inputs.dtype
        cell, kernel, own = request.cell, None, None
        if isinstance(cell, GatedCell):
            own = unfit(request) or kernel_of(cell, dtype)
            kernel = own if isinstance(own, Kernel) else None
        if kernel is not None:
            return functools.partial(_run_without_autocast if casting else _run, kernel, request)
        compiled = whole_kernel_of(cell, dtype)
        if not isinstance(compiled, str):
            other = steps.unfit(compiled, request)
            if other is None:
                run = functools.partial(steps.run, compiled, request)
                return functools.partial(_without_autocast, run) if casting else run
            compiled = other
        both = isinstance(own, str) and own != compiled
        return Refusal(f"{own}; and of its whole step: {compiled}" if both else compiled)


def _misplaced(request: Request, casting: bool) -> str | None:
    """Return the device or dtype of a tensor that no kernel serves, or None."""
    cell, inputs = request.cell, request.inputs
    fields = state_tensors(request.state)
    # All parts of most cells are in the cell itself: a walk over modules takes longer than the run.
    if cell._modules:
        parameters, buffers = list(cell.parameters()), list(cell.buffers())
    else:
        parameters, buffers = list(cell._parameters.values()), list(cell._buffers.values())
    for tensor in (inputs, *fields, *request.streams, *parameters[:1]):
        if tensor is not None and not tensor.is_cpu:
            return f"it runs on the CPU, and this is on {inputs.device}"
    for buffer in buffers:
        if buffer is not None and buffer.requires_grad:
            named = {id(b): n for n, b in cell.named_buffers()}[id(buffer)]
            return f"its buffer {named} requires a gradient, which buffers have none of here"
    if casting:
        return None
    wrong = {inputs.dtype} if inputs.dtype not in _SERVED else set()
    for tensor in (*fields, *request.streams, *parameters, *buffers):
        if tensor is not None and tensor.dtype != inputs.dtype and tensor.is_floating_point():
            wrong |= {inputs.dtype, tensor.dtype}
    if wrong:
        names = ", ".join(sorted(str(dtype).removeprefix("torch.") for dtype in wrong))
        return f"it computes in float32 or float64, and this is in {names}"
    return None


def unfit(request: Request) -> str | None:
    """Return the trait of a gated cell or of its tensors that its own kernel does not serve."""
    cell, state, inputs, streams = request.cell, request.state, request.inputs, request.streams
    assert isinstance(cell, GatedCell)
    name = type(cell).__name__
    if not cell.standard:
        return f"{name} has a step of its own, or a project"
    if request.resets is not None and not cell.starts_from_zero:
        return f"{name} has an initial state of its own, and a reset starts from zero"
    # Forms that only broadcasting allows.
    time, batch, _ = inputs.shape
    hidden = cell.hidden_size
    fields = [state.h, *getattr(state, "past", ())]
    for memory in cell.memories:
        fields.append(getattr(state, memory))
    for field in fields:
        if field.shape != (batch, hidden):
            return f"its state has a tensor of shape {tuple(field.shape)}, not {(batch, hidden)}"
    for stream in streams:
        shape = stream.shape
        if len(shape) != 3 or shape[0] != time or shape[1] not in (1, batch):
            return f"a stream has the shape {tuple(shape)}, not (time, batch, hidden or 1)"
        if shape[2] not in (1, hidden):
            return f"a stream has the width {shape[2]}, not 1 or {hidden}"
    if cell.bias_ih is None and cell.bias_hh is not None:
        return "it has bias_hh without bias_ih"
    return None


def kernel_of(cell: GatedCell, dtype: torch.dtype) -> Kernel | str:
    """Return the kernel of a cell, compiled if need be, or the reason why there is none."""
    compiler = search().found
    if isinstance(compiler, str):
        if os.environ.get("THROUGHTIME_CXX") not in ("", "none"):
            _warn(compiler)
        return compiler
    try:
        planned = plan(cell, dtype)
        known = _known.get((id(planned), dtype))
        if known is not None and known[0] is planned:
            return known[1]
        if not planned.accumulators:
            return "pointwise reads no gate, neither of the input nor of the past"
        compiled = _compiled.setdefault(type(cell), set())
        if planned not in compiled and len(compiled) >= MOST_KERNELS:
            return (
                f"{MOST_KERNELS} kernels were compiled for {type(cell).__name__}, since an "
                "attribute that its pointwise reads keeps changing. Make it a buffer"
            )
        kernel = kernel_for(planned, dtype, compiler)
        compiled.add(planned)
    except UntraceableError as error:
        return str(error)
    except (CompilationError, CacheFolderError) as error:
        _warn(str(error))
        return str(error)
    if len(_known) >= _MOST_KNOWN:
        _known.clear()
    _known[id(planned), dtype] = planned, kernel
    return kernel


def whole_kernel_of(cell: Cell, dtype: torch.dtype) -> StepKernel | str:
    """Return the kernel of a cell's whole step, compiled if need be, or the reason against it."""
    compiler = search().found
    if isinstance(compiler, str):
        if os.environ.get("THROUGHTIME_CXX") not in ("", "none"):
            _warn(compiler)
        return compiler
    try:
        planned = whole_plan(cell, dtype)
        found = _wholes.get((planned, dtype))
        if found is None:
            compiled = _compiled_wholes.setdefault(type(cell), set())
            if len(compiled) >= MOST_KERNELS:
                return (
                    f"{MOST_KERNELS} kernels were compiled for {type(cell).__name__}, since an "
                    "attribute that its step reads keeps changing. Make it a buffer"
                )
            found = compile_whole(planned, dtype, compiler)
            compiled.add(found.text)  # cells of other sizes share it
            if len(_wholes) >= _MOST_KNOWN:
                _wholes.clear()
            _wholes[planned, dtype] = found
        return found
    except UntraceableError as error:
        return str(error)
    except (CompilationError, CacheFolderError) as error:
        _warn(str(error))
        return str(error)


def _warn(reason: str) -> None:
    """Warn once of a fault of the machine, rather than of the request."""
    if reason in _warned:
        return
    _warned.add(reason)
    warnings.warn(
        f"throughtime runs without its native engine, several times slower: {reason}",
        stacklevel=2,
    )


def _run_without_autocast(kernel: Kernel, request: Request) -> Result:
    return _without_autocast(functools.partial(_run, kernel, request))


def _without_autocast(run: Runner) -> Result:
    with torch.autocast("cpu", enabled=False):
        return run()


def _run(kernel: Kernel, request: Request) -> Result:
    p, cell, state, lengths = kernel.plan, request.cell, request.state, request.lengths
    assert isinstance(cell, GatedCell), "refused by prepare"
    time, batch, _ = request.inputs.shape
    operands = gather(p, cell, request.inputs, state, request.streams)
    save = False
    for i, tensor in enumerate(operands):
        if tensor.dtype is not kernel.dtype:
            operands[i] = tensor.to(kernel.dtype)
        save = save or tensor.requires_grad
    save = save and torch.is_grad_enabled()
    ages = None
    if request.resets is not None:
        # before the first reset, the past that a step reads is the initial state, of any age
        start = torch.full((batch,), time + p.depth, dtype=torch.int64, device="cpu")
        ages = steps_since_reset(start, request.resets, time)
    segment = 0
    if save and not request.options.stores_all:
        chosen = _segment(kernel, request, ages)
        if not isinstance(chosen, int):
            return run_again(request, chosen, functools.partial(_run, kernel))
        segment = chosen
    rest = lengths, ages, request.outputs, save, segment
    if in_blocks(cell):
        heads = [of_head(p, cell, operands, i) for i in range(cell.heads)]
        found = [sequence(kernel.name, own, *rest) for own in heads]
        shown = kernel.fields + 1 + len(p.memories)
        results = [torch.cat(parts, -1) for parts in zip(*(f[:shown] for f in found), strict=True)]
    else:
        results = sequence(kernel.name, operands, *rest)
    memories = len(p.memories)
    final, kept = results[: kernel.fields], results[kernel.fields : kernel.fields + 1 + memories]
    past = tuple(final[1 + memories :])
    steps = last = None
    if cell.streams:
        steps = steps_since_reset(state.steps, request.resets, time) + 1
        rows = torch.arange(batch, device="cpu")
        last = steps[time - 1 if lengths is None else lengths - 1, rows]
    end = _state(state, final[: 1 + memories], past, last)
    if request.outputs != "states":
        return Result(final[0] if request.outputs == "last" else kept[0], end, None)
    valid = None if lengths is None else torch.arange(time, device="cpu")[:, None] < lengths
    pasts = tuple(
        _shown(_delayed(kept[0], state, i + 1), valid, None if ages is None else ages > i)
        for i in range(p.depth - 1)
    )
    if steps is not None and valid is not None:
        steps = torch.where(valid, steps, 0)
    return Result(kept[0], end, _state(state, kept, pasts, steps))


def _segment(kernel: Kernel, request: Request, ages: Tensor | None) -> int | tuple[Any, Any]:
    """Return the steps between two stored states, 0 for no checkpoints, or a plan of stretches."""
    options, p, time = request.options, kernel.plan, request.inputs.shape[0]
    if options.memory_budget is None:
        return options.segment(time)
    row = request.inputs.shape[1] * request.cell.hidden_size * kernel.dtype.itemsize
    of_state = (len(p.memories) + p.depth) * row
    of_step = (len(p.memories) + kernel.saved + (request.outputs == "last")) * row
    of_ages = 0 if ages is None else ages.nbytes // time
    budget = options.memory_budget - of_ages * time
    if of_step * time <= budget:
        return 0
    # a kernel runs its own segments again at little cost: fewer steps would take longer
    segment = segment_that_keeps_least(time, of_state, of_step) if of_step else 0
    if segment and kept_by_segments(time, segment, of_state, of_step) <= budget:
        return segment
    # each stretch has outputs and ages of its own
    of_step = (1 + len(p.memories) + kernel.saved) * row + of_ages
    return within(time, options.memory_budget, of_state, of_step)


def _state(
    like: State, fields: Sequence[Tensor], past: tuple[Tensor, ...], steps: Tensor | None
) -> State:
    """Return a state of the same type, from h and the memories, older outputs, and steps."""
    rest = ((past,) if hasattr(like, "past") else ()) + (() if steps is None else (steps,))
    return type(like)(*fields, *rest)


def _delayed(outputs: Tensor, initial: State, by: int) -> Tensor:
    """Return the outputs of so many steps before each step."""
    before = [initial.h, *initial.past]
    early = torch.stack(before[:by][::-1])
    return torch.cat([early, outputs])[: outputs.shape[0]]


def _shown(history: Tensor, valid: Tensor | None, seen: Tensor | None) -> Tensor:
    """Return a history with zeros beyond the lengths and before resets."""
    for mask in (valid, seen):
        if mask is not None:
            history = torch.where(mask[..., None], history, torch.zeros_like(history))
    return history
