"""A compiled step over time, as a node of autograd's graph."""

import ctypes
from collections.abc import Sequence
from typing import Any, final

import torch
from torch import Tensor

from throughtime.core.buffers import lend
from throughtime.core.capture import batched
from throughtime.engines.cpp.operators import Shown
from throughtime.engines.cpp.steps.call import Call, Tensors, split
from throughtime.engines.cpp.steps.kernel import Field, Input, Matrix, Steps
from throughtime.engines.cpp.steps.replay import replay


class _Run:
    """The structure of a call, which keeps alive all that it points to."""

    def __init__(self, call: Call, tensors: Tensors):
        plan, dtype = call.kernel.plan, call.kernel.dtype
        self.call, self.plan = call, plan
        self.inputs = [
            t if t.stride(-1) == 1 or t.shape[-1] == 1 else t.contiguous() for t in tensors.inputs
        ]
        self.initial = [t.contiguous() for t in tensors.initial]
        self.fresh = [t.contiguous() for t in tensors.fresh]
        time, batch = tensors.inputs[0].shape[:2]
        self.time, self.batch = time, batch
        self.values = torch.zeros(max(1, sum_of(plan)), dtype=dtype, device="cpu")
        for (_, at, width), tensor in zip(plan.parameters, tensors.parameters, strict=True):
            self.values[at : at + width] = tensor.detach().reshape(-1)
        self.matrices = list(tensors.matrices)
        matrices = [Matrix(t.data_ptr(), *t.stride()) for t in self.matrices]
        inputs = [Input(t.data_ptr(), t.shape[2], t.stride(0), t.stride(1)) for t in self.inputs]
        self.arrays = [
            (Matrix * max(1, len(matrices)))(*matrices),
            (Input * len(inputs))(*inputs),
        ]
        self.lengths = None if call.lengths is None else call.lengths.contiguous()
        self.resets = None if call.resets is None else call.resets.to(torch.uint8).contiguous()
        self.job = Steps(
            time=time,
            batch=batch,
            threads=torch.get_num_threads(),
            inputs=len(inputs),
            fields=len(plan.fields),
            gradients=len(plan.matrix_gradients),
            saved=plan.saved,
            slot=plan.slot,
            carry=plan.carry,
            output=sum(p.width for p in plan.results[-1]),
            sums=plan.sums,
            presents=len(plan.presents),
            matrices=ctypes.addressof(self.arrays[0]),
            input=ctypes.addressof(self.arrays[1]),
            lengths=_at(self.lengths),
            resets=_at(self.resets),
            parameter_values=_at(self.values),
        )

    def run(self, direction: str, fields: Sequence[Any]) -> None:
        """Run a pass."""
        kernel, job = self.call.kernel, self.job
        own = (Field * max(1, len(fields)))(*fields)
        getattr(kernel, direction).fill(job)
        job.field = ctypes.addressof(own)
        measure, run = kernel.functions[direction]
        workspace = lend((measure(ctypes.byref(job)),), torch.uint8)
        job.workspace = workspace.data_ptr()
        run(ctypes.byref(job))


def sum_of(plan: Any) -> int:
    """Return the number of values of all vectors of parameters, with what is between them."""
    return max([at + -(-width // 16) * 16 for _, at, width in plan.parameters], default=0)


def _at(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


def run_forward(call: Call, tensors: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor | None]]:
    """Run the forward pass.

    Returns:
        The final fields; then the histories of the fields, the outputs where no field equals
        them, and the saved values: None for what is not kept.
    """
    given = split(call, tensors)
    run, plan, dtype = _Run(call, given), call.kernel.plan, call.kernel.dtype
    last = [lend((run.batch, width), dtype) for width in plan.widths]
    # fields that take over others' values point into the histories of those
    keep = call.save or any(shift is not None for shift in plan.shifts)
    kept: list[Tensor | None] = [
        lend((run.time, run.batch, width), dtype) if wanted or (keep and shift is None) else None
        for width, wanted, shift in zip(plan.widths, call.histories, plan.shifts, strict=True)
    ]
    outputs = None
    if plan.output is None:
        outputs = lend((run.time, run.batch, run.job.output), dtype)
    saved = lend((run.time, run.batch, plan.saved), dtype) if call.save else None
    run.job.outputs, run.job.saved_values = _at(outputs), _at(saved)
    run.run(
        "forward",
        [
            Field(
                **own,
                initial=_at(run.initial[f]),
                fresh=_at(run.fresh[f]) if run.fresh else None,
                history=_at(kept[f]),
                last=_at(last[f]),
            )
            for f, own in enumerate(call.kernel.fields)
        ],
    )
    return last, [*kept, outputs, saved]


def run_backward(
    call: Call,
    tensors: Sequence[Tensor],
    kept: Sequence[Tensor | None],
    gradients: Sequence[Tensor | None],
    needed: Sequence[bool],
) -> list[Tensor | None]:
    """Run the backward pass.

    Arguments:
        call: The run.
        tensors: The tensors of the run.
        kept: The histories, the outputs and the saved values of the forward pass.
        gradients: The gradients of the final fields, of the histories and of the outputs.
        needed: True for each tensor whose gradient is wanted.

    Returns:
        The gradients of the tensors.
    """
    given, wanted = split(call, tensors), split(call, needed)
    run, plan, dtype = _Run(call, given), call.kernel.plan, call.kernel.dtype
    count = len(plan.fields)
    above = [None if g is None else g.contiguous() for g in gradients]
    *histories, _, saved = kept
    job = run.job
    job.saved_values, job.d_outputs = _at(saved), _at(above[2 * count])
    d_input = lend(given.inputs[0].shape, dtype) if wanted.inputs[0] else None
    d_initial = [lend(t.shape, dtype) if w else None for t, w in _pairs(given, wanted, "initial")]
    d_fresh = [
        torch.zeros_like(t, memory_format=torch.contiguous_format) if w else None
        for t, w in _pairs(given, wanted, "fresh")
    ]
    sums = torch.zeros(max(1, plan.sums), dtype=dtype, device="cpu")
    d_matrices: list[Tensor | None] = [
        lend((g.depth, g.width), dtype) if wanted.matrices[plan.matrices.index(g.weight)] else None
        for g in plan.matrix_gradients
    ]
    addresses = (ctypes.c_void_p * max(1, len(d_matrices)))(*map(_at, d_matrices))
    job.d_input, job.d_parameters = _at(d_input), _at(sums)
    present = _presence(call, run.time, above)
    job.present = _at(present)
    job.matrix_gradients = ctypes.addressof(call.kernel.matrix_gradients)
    job.d_matrices = ctypes.addressof(addresses)
    run.run(
        "backward",
        [
            Field(
                **own,
                initial=_at(run.initial[f]),
                fresh=_at(run.fresh[f]) if run.fresh else None,
                history=_at(histories[f]),
                d_last=_at(above[f]),
                d_history=_at(above[count + f]),
                d_initial=_at(d_initial[f]),
                d_fresh=_at(d_fresh[f]) if d_fresh else None,
            )
            for f, own in enumerate(call.kernel.fields)
        ],
    )
    of_matrices: list[Tensor | None] = []
    for index, want in zip(plan.matrices, wanted.matrices, strict=True):
        parts = [
            d.t() if g.transposed else d
            for g, d in zip(plan.matrix_gradients, d_matrices, strict=True)
            if g.weight == index and d is not None
        ]
        total = sum(parts[1:], parts[0]) if parts else None
        of_matrices.append(total if want else None)
    of_parameters = [
        torch.zeros_like(t, memory_format=torch.contiguous_format) if want else None
        for t, want in _pairs(given, wanted, "parameters")
    ]
    by_number = dict(zip([n for n, _, _ in plan.parameters], of_parameters, strict=True))
    for g in plan.parameter_gradients:
        tensor = by_number[g.parameter]
        if tensor is not None:
            tensor.view(-1)[g.offset : g.offset + g.width] = sums[g.at : g.at + g.width]
    streams = [None] * (len(plan.trace.inputs) - 1)
    return [d_input, *streams, *d_initial, *d_fresh, *of_parameters, *of_matrices]


def _presence(call: Call, time: int, above: Sequence[Tensor | None]) -> Tensor:
    """Return 1 for each step and set of results of which one has a gradient, as in autograd.

    Arguments:
        call: The run.
        time: The number of steps.
        above: The gradients of the final fields, of the histories and of the outputs.
    """
    plan = call.kernel.plan
    count = len(plan.fields)
    last = _bits(above[:count])
    always = _bits(above[count:])
    ends = {time} if call.lengths is None else set(call.lengths.tolist())
    carried = {0: 0}
    found, after = [0] * time, 0
    for t in range(max(ends, default=0), 0, -1):  # beyond them, no step is run
        if after not in carried:
            carried[after] = _bits([True if r & after else None for r in plan.reach])
        after = carried[after] | always | (last if t in ends else 0)
        found[t - 1] = after
    rows = {results: i for i, results in enumerate(dict.fromkeys(found))}
    table = [[float(results & own != 0) for own in plan.presents] for results in rows]
    values = torch.tensor(table, dtype=call.kernel.dtype, device="cpu")
    return values[[rows[results] for results in found]]


def _bits(present: Sequence[Any]) -> int:
    return sum(1 << i for i, value in enumerate(present) if value is not None)


def _pairs(tensors: Tensors, others: Tensors, name: str) -> list[tuple[Any, Any]]:
    return list(zip(getattr(tensors, name), getattr(others, name), strict=True))


@final
class StepsOverTime(torch.autograd.Function):
    """A run of a compiled step with its gradient.

    The results are the final fields, the histories that the call asks for, and the outputs where
    the call asks for them and no field equals them.
    """

    @staticmethod
    def forward(ctx: Any, call: Call, *tensors: Tensor) -> tuple[Tensor, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Run the forward pass."""
        last, kept = run_forward(call, tensors)
        shown = _shown(call, kept)
        ctx.call, ctx.count = call, len(tensors)
        ctx.set_materialize_grads(False)
        if call.save:
            ctx.shown = Shown(shown)
            # aliases, whose changes autograd does not refuse
            ctx.save_for_backward(*tensors, *(None if k is None else k.data for k in kept))
        return *last, *shown

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Any, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Run the backward pass; by torch where its own gradient is wanted."""
        call, saved = ctx.call, ctx.saved_tensors
        tensors, kept = saved[: ctx.count], saved[ctx.count :]
        plan = call.kernel.plan
        needed = list(ctx.needs_input_grad[1:])
        present = [g for g in gradients if g is not None]
        if torch.is_grad_enabled() or batched(present):
            return None, *replay(call, tensors, gradients, needed)
        if ctx.shown.changed():
            _, kept = run_forward(call, tensors)
        count, rest = len(plan.fields), iter(gradients[len(plan.fields) :])
        above = [*gradients[:count]]
        above += [next(rest) if wanted else None for wanted in call.histories]
        above += [next(rest) if call.outputs and plan.output is None else None]
        return None, *run_backward(call, tensors, kept, above, needed)


def _shown(call: Call, kept: Sequence[Tensor | None]) -> list[Tensor]:
    *histories, outputs, _ = kept
    shown = [
        h for h, wanted in zip(histories, call.histories, strict=True) if wanted and h is not None
    ]
    if call.outputs and outputs is not None:
        shown.append(outputs)
    return shown
