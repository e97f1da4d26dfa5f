"""One step of a gated cell as one compiled call, on a state that stays where it is."""

import ctypes
from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor

from throughtime.engines.cpp.engine import NativeEngine, kernel_of
from throughtime.engines.cpp.kernel import Kernel
from throughtime.engines.cpp.operands import gather
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
    if request.streams:
        return Refusal(f"{type(cell).__name__} draws numbers for each step")
    kernel = kernel_of(cell, inputs.dtype)
    if isinstance(kernel, str):
        return Refusal(kernel)
    operands = gather(kernel.plan, cell, inputs, request.state, ())
    if any(not tensor.is_contiguous() for tensor in operands):
        return Refusal("a weight is not contiguous, and a copy would not follow its changes")
    if any(tensor.dtype is not kernel.dtype for tensor in operands):
        return Refusal(f"a tensor is not of dtype {kernel.dtype}")
    return CompiledStep(kernel, operands)


@final
class CompiledStep:
    """One step of a gated cell, without gradient.

    The weights are read where they lie: they may be changed in place, and must not move. The states
    before and after a step are two sets of tensors that change places at each step.

    Arguments:
        kernel: The kernel of the cell.
        operands: The tensors that it reads, contiguous, in the order of `Operands`.

    Attributes:
        state: h, the memories, then older outputs from the newest on, each (batch, hidden).
    """

    def __init__(self, kernel: Kernel, operands: Sequence[Tensor]):
        fields, streams = kernel.fields, len(kernel.plan.streams)
        first = len(operands) - streams - fields
        own, self._after = (
            [t.detach().clone() for t in operands[first : first + fields]] for _ in range(2)
        )
        self.state = own
        self._jobs = []
        for before, after in ((own, self._after), (self._after, own)):
            job = job_of(kernel, [*operands[:first], *before], None, None, 0)
            job.tensors(
                final=after,
                outputs=None,
                saved_values=None,
                snapshots=None,
                histories=[None] * len(kernel.plan.memories),
            )
            self._jobs.append(job)
        size = int(kernel.loop.forward_workspace(ctypes.byref(self._jobs[0].structure)))
        self._workspace = torch.empty(max(0, size), dtype=torch.uint8)
        for job in self._jobs:
            job.structure.workspace = self._workspace.data_ptr()
            job.structure.workspace_size = size
        self._structure, self._next = (job.structure for job in self._jobs)
        self._run = kernel.loop.run_forward

    def __call__(self, inputs: Tensor) -> Tensor:
        """Run one step.

        Arguments:
            inputs: (batch, input), contiguous, of the kernel's dtype, on the CPU.

        Returns:
            h (batch, hidden): the tensor itself, which the step after next overwrites.
        """
        structure = self._structure
        structure.inputs = inputs.data_ptr()
        misfit = self._run(ctypes.byref(structure))
        if misfit is not None:
            raise self._jobs[0].misfit(misfit.decode())
        self._structure, self._next = self._next, structure
        self.state, self._after = self._after, self.state
        return self.state[0]
