"""The native engine: a gated cell's whole sequence as one kernel of generated C++, on the CPU."""

import os
import threading
import warnings
import weakref
from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor

from throughtime.core.gated import GatedCell
from throughtime.core.sequence import steps_since_reset
from throughtime.core.state import State, state_tensors
from throughtime.engines.cpp.building import CompilationError
from throughtime.engines.cpp.cache import CacheFolderError
from throughtime.engines.cpp.compiler import find_compiler
from throughtime.engines.cpp.kernel import Kernel, kernel_for
from throughtime.engines.cpp.operands import gather
from throughtime.engines.cpp.operators import sequence
from throughtime.engines.engine import Engine, Request, Result, autocasts, transformed
from throughtime.engines.recomputation import (
    kept_by_segments,
    run_again,
    segment_that_keeps_least,
    within,
)
from throughtime.engines.trace.plan import plan
from throughtime.engines.trace.program import UntraceableError
from throughtime.engines.trace.step_plan import StepPlan

MOST_KERNELS = 64
"""Of one class in a process: each takes a moment to compile, and stays loaded."""

_compiled: weakref.WeakKeyDictionary[type, set[StepPlan]] = weakref.WeakKeyDictionary()
_warned: set[str] = set()
_last = threading.local()  # the request that was last asked for, and its kernel


@final
class NativeEngine(Engine):
    """Compiles a cell's `pointwise` and its gradient into a kernel for whole sequences.

    It serves gated cells in float32 and float64 on the CPU, where there is a C++ compiler. Under
    autocast it computes in float32.
    """

    name = "native"

    def refusal(self, request: Request) -> str | None:
        """A captured call, no gated cell, another device or dtype, a transform, or no compiler."""
        if request.captured is not None:
            return f"{request.captured}, and its kernels are of this process"
        reason = _unfit(request) or transformed(request)
        if reason is not None:
            return reason
        kernel, reason = _found(request)
        _last.found = weakref.ref(request), kernel
        return reason

    def run(self, request: Request) -> Result:
        """One call of the kernel."""
        asked, kernel = getattr(_last, "found", (lambda: None, None))
        if asked() is not request:
            kernel, _ = _found(request)
        assert kernel is not None, "refused before"
        if not autocasts(request):
            return _run(kernel, request)
        with torch.autocast("cpu", enabled=False):
            return _run(kernel, request)


def _unfit(request: Request) -> str | None:
    """What of the cell and of its tensors no kernel could serve."""
    cell, kind = request.cell, type(request.cell)
    if not isinstance(cell, GatedCell):
        return f"{kind.__name__} is no GatedCell, so its step is not known to be elementwise"
    if not cell.standard:
        return f"{kind.__name__} has a step of its own, or a project"
    if request.resets is not None and not cell.starts_from_zero:
        return f"{kind.__name__} has an initial state of its own, and a reset starts from zero"
    misfit = _misfit(cell, request)
    if misfit is not None:
        return misfit
    tensors = [request.inputs, *state_tensors(request.state), *request.streams]
    if any(t.device.type != "cpu" for t in [*tensors, cell.weight_ih]):
        return f"it runs on the CPU, and this is on {request.inputs.device}"
    for name, buffer in cell.named_buffers():
        if buffer.requires_grad:
            return f"its buffer {name} requires a gradient, which buffers have none of here"
    if autocasts(request):
        return None
    tensors += [*cell.parameters(), *cell.buffers()]
    dtypes = {t.dtype for t in tensors if t.is_floating_point()}
    if len(dtypes) > 1 or request.inputs.dtype not in (torch.float32, torch.float64):
        named = ", ".join(sorted(str(d).removeprefix("torch.") for d in dtypes))
        return f"it computes in float32 or float64, and this is in {named}"
    return None


def _misfit(cell: GatedCell, request: Request) -> str | None:
    """What of the state, the streams and the biases has a form that only broadcasting allows."""
    time, batch, _ = request.inputs.shape
    state, whole = request.state, (batch, cell.hidden_size)
    for field in (
        state.h,
        *(getattr(state, m) for m in cell.memories),
        *getattr(state, "past", ()),
    ):
        if field.shape != whole:
            return f"its state has a tensor of shape {tuple(field.shape)}, not {whole}"
    for stream in request.streams:
        shape = stream.shape
        if len(shape) != 3 or shape[0] != time or shape[1] not in (1, batch):
            return f"a stream has the shape {tuple(shape)}, not (time, batch, hidden or 1)"
        if shape[2] not in (1, cell.hidden_size):
            return f"a stream has the width {shape[2]}, not 1 or {cell.hidden_size}"
    if cell.bias_ih is None and cell.bias_hh is not None:
        return "it has bias_hh without bias_ih"
    return None


def _found(request: Request) -> tuple[Kernel | None, str | None]:
    """The kernel of a request's cell, or why there is none."""
    compiler = find_compiler()
    if isinstance(compiler, str):
        if os.environ.get("THROUGHTIME_CXX") not in ("", "none"):
            _warn(compiler)
        return None, compiler
    dtype = torch.float32 if autocasts(request) else request.inputs.dtype
    assert isinstance(request.cell, GatedCell), "refused before"
    try:
        planned = plan(request.cell, dtype)
        if not planned.accumulators:
            return None, "pointwise reads no gate, neither of the input nor of the past"
        compiled = _compiled.setdefault(type(request.cell), set())
        if planned not in compiled and len(compiled) >= MOST_KERNELS:
            return None, (
                f"{MOST_KERNELS} kernels were compiled for {type(request.cell).__name__}, since an "
                "attribute that its pointwise reads keeps changing. Make it a buffer"
            )
        kernel = kernel_for(planned, dtype, compiler)
        compiled.add(planned)
        return kernel, None
    except UntraceableError as error:
        return None, str(error)
    except (CompilationError, CacheFolderError) as error:
        _warn(str(error))
        return None, str(error)


def _warn(reason: str) -> None:
    """Say once that something is wrong with the machine rather than with the request."""
    if reason in _warned:
        return
    _warned.add(reason)
    warnings.warn(
        f"throughtime runs without its native engine, several times slower: {reason}",
        stacklevel=2,
    )


def _run(kernel: Kernel, request: Request) -> Result:
    p, cell, state = kernel.plan, request.cell, request.state
    assert isinstance(cell, GatedCell), "refused before"
    time = request.inputs.shape[0]
    operands = gather(p, cell, request.inputs, state, request.streams).flat()
    if any(t.dtype != kernel.dtype for t in operands):
        operands = [t.to(kernel.dtype) for t in operands]
    lengths = request.lengths
    ages = None
    if request.resets is not None:
        # before the first reset, what is seen of the past is the initial state, of any age
        start = torch.full(
            (request.inputs.shape[1],), time + p.depth, dtype=torch.int64, device="cpu"
        )
        ages = steps_since_reset(start, request.resets, time)
    save = torch.is_grad_enabled() and any(t.requires_grad for t in operands)
    segment = request.options.segment(time) if save else 0
    if save and request.options.memory_budget is not None:
        row = request.inputs.shape[1] * cell.hidden_size * kernel.dtype.itemsize
        of_state = (len(p.memories) + p.depth) * row
        of_step = (len(p.memories) + kernel.saved + (request.outputs == "last")) * row
        of_ages = 0 if ages is None else ages.nbytes // time
        budget = request.options.memory_budget - of_ages * time
        if of_step * time > budget:
            # a kernel runs its own segments again at little cost: fewer steps would take longer
            segment = segment_that_keeps_least(time, of_state, of_step) if of_step else 0
            if not segment or kept_by_segments(time, segment, of_state, of_step) > budget:
                # each stretch has outputs and ages of its own
                of_step = (1 + len(p.memories) + kernel.saved) * row + of_ages
                plan = within(time, request.options.memory_budget, of_state, of_step)
                return run_again(request, plan, lambda part: _run(kernel, part))
    results = sequence(
        str(kernel.name),
        operands,
        lengths,
        ages,
        request.outputs,
        save,
        segment,
    )
    memories = len(p.memories)
    fields = memories + p.depth
    final, kept = results[:fields], results[fields : fields + 1 + memories]
    past = tuple(final[1 + memories :])
    steps = None
    if cell.streams:
        steps = steps_since_reset(state.steps, request.resets, time) + 1
    last = steps
    if last is not None:
        rows = torch.arange(request.inputs.shape[1], device="cpu")
        last = last[time - 1 if lengths is None else lengths - 1, rows]
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


def _state(
    like: State, fields: Sequence[Tensor], past: tuple[Tensor, ...], steps: Tensor | None
) -> State:
    """A state of the same type from h and the memories, older outputs, and steps."""
    rest = ((past,) if hasattr(like, "past") else ()) + (() if steps is None else (steps,))
    return type(like)(*fields, *rest)


def _delayed(outputs: Tensor, initial: State, by: int) -> Tensor:
    """The outputs of so many steps before each step."""
    before = [initial.h, *initial.past]
    early = torch.stack(before[:by][::-1])
    return torch.cat([early, outputs])[: outputs.shape[0]]


def _shown(history: Tensor, valid: Tensor | None, seen: Tensor | None) -> Tensor:
    """Zeros beyond the lengths and before resets."""
    for mask in (valid, seen):
        if mask is not None:
            history = torch.where(mask[..., None], history, torch.zeros_like(history))
    return history
