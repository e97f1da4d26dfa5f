"""One step of a gated cell as one compiled call, on a state that stays where it is."""

import ctypes
from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor

from throughtime.core.gated import GatedCell
from throughtime.engines.cpp.engine import NativeEngine, kernel_of, unfit
from throughtime.engines.cpp.kernel import Kernel
from throughtime.engines.cpp.operands import gather, in_blocks
from throughtime.engines.cpp.operators import job_of
from throughtime.engines.engine import Refusal, Request


def compiled_step(request: Request) -> "CompiledStep | Refusal":
    """Return one step of a request's cell, compiled, or the reason against it.

    Arguments:
        request: A request of one step. Its state is the first one; its inputs give the shape.
    """
    refused = NativeEngine().prepare(request)
    if isinstance(refused, Refusal):
        return refused
    cell, inputs = request.cell, request.inputs
    if not isinstance(cell, GatedCell):
        return Refusal(
            f"{type(cell).__name__} is no GatedCell, and its step has no call of its own"
        )
    if reason := unfit(request):
        return Refusal(reason)
    if request.streams:
        return Refusal(f"{type(cell).__name__} draws numbers for each step")
    kernel = kernel_of(cell, inputs.dtype)
    if isinstance(kernel, str):
        return Refusal(kernel)
    if in_blocks(cell):
        return Refusal(f"{type(cell).__name__} has heads, each of which is a call of its own")
    operands = gather(kernel.plan, cell, inputs, request.state, ())
    if any(not tensor.is_contiguous() for tensor in operands):
        return Refusal("a weight is not contiguous, and a copy would not follow its changes")
    if any(tensor.dtype is not kernel.dtype for tensor in operands):
        return Refusal(f"a tensor is not of dtype {kernel.dtype}")
    return CompiledStep(kernel, operands)


@final
class CompiledStep:
    """One step of a gated cell, without gradient.

    The weights are read where they lie: they may be changed in place, and must not move. One thread
    may run it at a time.

    Arguments:
        kernel: The kernel of the cell.
        operands: The tensors that it reads, contiguous, in the order of `Operands`.

    Attributes:
        fields: The number of tensors of a state: h, the memories, then older outputs.
        hidden_size: The width of each of them.
        dtype: The dtype of all tensors.
        kernel: The kernel of the cell.
        job: The call of the compiled code.
    """

    def __init__(self, kernel: Kernel, operands: Sequence[Tensor]):
        self.fields, self.dtype, self.kernel = kernel.fields, kernel.dtype, kernel
        self.hidden_size = operands[-1].shape[1]
        first = len(operands) - self.fields
        state = [torch.empty_like(tensor) for tensor in operands[first:]]
        job = job_of(kernel, [*operands[:first], *state], None, None, 0)
        job.tensors(
            final=state,
            saved_values=None,
            snapshots=None,
            histories=[None] * len(kernel.plan.memories),
        )
        self.job, self._structure = job, job.structure
        spans = ctypes.c_int64 * (2 * self.fields)
        self._before = spans.from_address(job.structure.initial)
        self._after = spans.from_address(job.structure.final)
        self._outputs_size = state[0].nbytes
        measure, self._run = kernel.functions["forward"]
        size = max(0, measure(ctypes.byref(job.structure)))
        self._workspace = torch.empty(size, dtype=torch.uint8)
        job.structure.workspace = self._workspace.data_ptr()
        job.structure.workspace_size = size

    def __call__(
        self,
        inputs: Tensor,
        before: Sequence[Tensor],
        after: Sequence[Tensor],
        outputs: Tensor | None = None,
    ) -> None:
        """Run one step. All tensors are contiguous, of the kernel's dtype, on the CPU.

        Arguments:
            inputs: (batch, input).
            before: The state before the step, (batch, hidden) a tensor.
            after: The tensors of the state after the step, which are written.
            outputs: A tensor for a second h (batch, hidden), which is written; or None.
        """
        structure = self._structure
        structure.inputs = inputs.data_ptr()
        self.point(before, after)
        structure.outputs = None if outputs is None else outputs.data_ptr()
        structure.outputs_size = 0 if outputs is None else self._outputs_size
        misfit = self._run(ctypes.byref(structure))
        if misfit is not None:
            raise self.job.misfit(misfit.decode())

    def point(self, before: Sequence[Tensor], after: Sequence[Tensor]) -> None:
        """Set the tensors of the state that the next step reads, and those that it writes."""
        spans_before, spans_after = self._before, self._after
        for i in range(self.fields):
            spans_before[2 * i] = before[i].data_ptr()
            spans_after[2 * i] = after[i].data_ptr()
