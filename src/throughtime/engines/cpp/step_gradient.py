"""One step of a gated cell as a node of autograd's graph, with as little around it as possible.

Equal to a run of one step by `operators.sequence`; a call takes half of the time, since sizes and
the form of the job are those of the call before, and only addresses change.
"""

import ctypes
import math
import threading
from collections.abc import Sequence
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor

from throughtime.core.buffers import lend
from throughtime.core.capture import batched
from throughtime.core.gated import GatedCell
from throughtime.engines.cpp.engine import NativeEngine, kernel_of
from throughtime.engines.cpp.kernel import Kernel
from throughtime.engines.cpp.operands import gather, in_blocks, split
from throughtime.engines.cpp.operators import job_of, sequence_backward
from throughtime.engines.engine import Refusal, Request

_PAIR = 2  # an address and a size


def step_with_gradient(request: Request) -> "StepWithGradient | Refusal":
    """Return one step of a request's cell with its gradient, or the reason against it.

    Arguments:
        request: A request of one step. Its inputs and its state give shapes alone.
    """
    refused = NativeEngine().prepare(request)
    if isinstance(refused, Refusal):
        return refused
    cell, inputs = request.cell, request.inputs
    assert isinstance(cell, GatedCell), "refused by prepare"
    kernel = kernel_of(cell, inputs.dtype)
    if isinstance(kernel, str):
        return Refusal(kernel)
    if request.streams or cell.streams or kernel.plan.parameters:
        return Refusal(f"{type(cell).__name__} reads more than weights, biases and its state")
    if in_blocks(cell):
        return Refusal(f"{type(cell).__name__} has heads, each of which is a call of its own")
    operands = gather(kernel.plan, cell, inputs, request.state, ())
    weights = operands[1 : len(operands) - kernel.fields]
    if any(not t.is_contiguous() or t.dtype is not kernel.dtype for t in weights):
        return Refusal("a weight is not contiguous, or of another dtype")
    return StepWithGradient(kernel, weights, inputs.shape[1], inputs.shape[2], cell.hidden_size)


@final
class StepWithGradient:
    """One step of a gated cell, with its gradient. Any thread may run it.

    Arguments:
        kernel: The kernel of the cell, whose `pointwise` reads no unit parameters.
        weights: The weights and biases, contiguous, in the order of `Operands`. A call is given the
            same tensors, at the same addresses.
        batch_size: The number of sequences.
        input_size: The width of the input.
        hidden_size: The width of each tensor of the state.

    Attributes:
        kernel: The kernel of the cell.
        weights: The weights and biases.
        fields: The number of tensors of a state: h, the memories, then older outputs.
        state_shape: (batch, hidden).
    """

    def __init__(
        self,
        kernel: Kernel,
        weights: Sequence[Tensor],
        batch_size: int,
        input_size: int,
        hidden_size: int,
    ):
        self.kernel, self.weights, self.fields = kernel, list(weights), kernel.fields
        self.state_shape = batch_size, hidden_size
        self.inputs_shape = 1, batch_size, input_size
        self._bytes_of_state = batch_size * hidden_size * kernel.dtype.itemsize
        self._saved_shape = (1, batch_size, kernel.saved, hidden_size)
        self._memories = len(kernel.plan.memories)
        self._forward = _Form(kernel, self._example(), 0)
        self._backward = _Form(kernel, self._example(), 1 + self._memories)

    def _example(self) -> list[Tensor]:
        dtype = self.kernel.dtype
        state = [torch.empty(self.state_shape, dtype=dtype) for _ in range(self.fields)]
        return [torch.empty(self.inputs_shape, dtype=dtype), *self.weights, *state]

    def run(self, operands: Sequence[Tensor], shape: Sequence[int]) -> tuple[list[Tensor], ...]:
        """Run the step; return the state after it, of a shape, and the values for `gradients`."""
        dtype = self.kernel.dtype
        final = [torch.empty(shape, dtype=dtype) for _ in range(self.fields)]
        kept = [torch.empty(self.state_shape, dtype=dtype) for _ in range(1 + self._memories)]
        kept.append(torch.empty(self._saved_shape, dtype=dtype))
        form, structure = self._forward, self._forward.job.structure
        with form.lock:
            structure.inputs = operands[0].data_ptr()
            form.set_state("initial", operands[-self.fields :], self._bytes_of_state)
            form.set_state("final", final, self._bytes_of_state)
            form.keep(kept)
            self.kernel.run("forward", form.job)
        return final, kept

    def gradients(
        self,
        above: Sequence[Tensor | None],
        operands: Sequence[Tensor],
        kept: Sequence[Tensor],
        needed: Sequence[bool],
    ) -> list[Tensor | None]:
        """Compute the gradients of operands.

        Arguments:
            above: The gradients of the outputs, contiguous, then of each tensor of the state.
            operands: The operands of the run.
            kept: The values that `run` returned.
            needed: True for each operand whose gradient is wanted.
        """
        dtype = self.kernel.dtype
        found = [lend(t.shape, dtype) if n else None for t, n in zip(operands, needed, strict=True)]
        of = split(self.kernel.plan, found, streams=False)
        bias_ih, bias_hh = (*of.biases, None, None)[:2]
        form, structure = self._backward, self._backward.job.structure
        with form.lock:
            structure.inputs = operands[0].data_ptr()
            form.set_state("initial", operands[-self.fields :], self._bytes_of_state)
            form.keep(kept)
            form.set_state("final_gradients", above[1:], self._bytes_of_state)
            form.set_state("d_initial", of.initial, self._bytes_of_state)
            form.set_arrays("d_weight_hh", of.weights[1:])
            form.set("output_gradient", above[0])
            form.set("d_inputs", of.inputs)
            form.set("d_weight_ih", of.weights[0])
            form.set("d_bias_ih", bias_ih)
            form.set("d_bias_hh", bias_hh)
            self.kernel.run("backward", form.job)
        return found


class _Form:
    """A job whose addresses are set anew by each call."""

    def __init__(self, kernel: Kernel, operands: list[Tensor], above: int):
        self.job, self.lock = job_of(kernel, operands, None, None, 0), threading.Lock()
        batch, hidden = operands[-1].shape
        history = torch.empty(1, batch, hidden, dtype=kernel.dtype)
        saved = torch.empty(1, batch, kernel.saved, hidden, dtype=kernel.dtype)
        memories = [history] * len(kernel.plan.memories)
        state = operands[-kernel.fields :]
        self.job.tensors(outputs=history, histories=memories, saved_values=saved, snapshots=None)
        if above:
            of = split(kernel.plan, operands, streams=False)
            self.job.numbers(output_gradient_strides=(batch * hidden, hidden))
            self.job.tensors(
                final_gradients=state,
                history_gradients=[None] * len(memories),
                d_initial=state,
                d_weight_hh=of.weights[1:],
                d_parameters=[],
            )
        else:
            self.job.tensors(final=state)
        self._histories = self._array("histories", len(memories))
        self._arrays = {
            name: self._array(name, count)
            for name, count in (
                ("initial", kernel.fields),
                ("final", 0 if above else kernel.fields),
                ("final_gradients", kernel.fields if above else 0),
                ("d_initial", kernel.fields if above else 0),
                ("d_weight_hh", len(kernel.plan.lags) if above else 0),
            )
            if count
        }
        self._saved = kernel.saved > 0

    def _array(self, name: str, count: int) -> Any:
        return (ctypes.c_int64 * (_PAIR * count)).from_address(getattr(self.job.structure, name))

    def set(self, name: str, tensor: Tensor | None) -> None:
        """Set an array."""
        structure = self.job.structure
        setattr(structure, name, 0 if tensor is None else tensor.data_ptr())
        setattr(structure, f"{name}_size", 0 if tensor is None else tensor.nbytes)

    def set_state(self, name: str, tensors: Sequence[Tensor | None], size: int) -> None:
        """Set arrays of the size of a state."""
        array, i = self._arrays[name], 0
        for tensor in tensors:
            array[i] = 0 if tensor is None else tensor.data_ptr()
            array[i + 1] = 0 if tensor is None else size
            i += _PAIR

    def set_arrays(self, name: str, tensors: Sequence[Tensor | None]) -> None:
        """Set arrays of several sizes."""
        array = self._arrays[name]
        for i, tensor in enumerate(tensors):
            array[_PAIR * i] = 0 if tensor is None else tensor.data_ptr()
            array[_PAIR * i + 1] = 0 if tensor is None else tensor.nbytes

    def keep(self, kept: Sequence[Tensor]) -> None:
        """Set the arrays that the backward pass reads: outputs, memories, saved values."""
        structure, histories = self.job.structure, self._histories
        structure.outputs = kept[0].data_ptr()
        for i, memory in enumerate(kept[1:-1]):
            histories[_PAIR * i] = memory.data_ptr()
        if self._saved:
            structure.saved_values = kept[-1].data_ptr()


@final
class _StepNode(torch.autograd.Function):
    """The node of `run_step`."""

    @staticmethod
    def forward(ctx: Any, step: StepWithGradient, *operands: Tensor) -> Any:
        """Return the outputs and the state."""
        final, kept = step.run(operands, operands[-1].shape)
        ctx.step = step
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*operands, *kept)
        # apart from what the backward pass reads, since users may change it in place
        y = torch.empty((*operands[0].shape[:2], final[0].shape[-1]), dtype=final[0].dtype)
        y.view(final[0].shape).copy_(final[0])
        return (y, *final)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Any, ...]:
        """Return the gradients of the operands."""
        step: StepWithGradient = ctx.step
        saved, needed = ctx.saved_tensors, ctx.needs_input_grad[1:]
        operands, kept = saved[: len(needed)], saved[len(needed) :]
        weights = operands[1 : len(needed) - step.fields]
        same = [t.data_ptr() for t in weights] == [t.data_ptr() for t in step.weights]
        present = [g for g in gradients if g is not None]
        if torch.is_grad_enabled() or not same or batched(present):
            return None, *_by_operator(step, gradients, operands, kept, needed)
        above = [g if g is None or g.is_contiguous() else g.contiguous() for g in gradients]
        return None, *step.gradients(above, operands, kept, needed)


def _by_operator(
    step: StepWithGradient,
    gradients: Sequence[Tensor | None],
    operands: Sequence[Tensor],
    kept: Sequence[Tensor],
    needed: Sequence[bool],
) -> list[Tensor | None]:
    """Return the gradients as `sequence_backward` computes them, which has gradients itself."""
    first = len(operands) - step.fields
    plain = [operands[0].reshape(step.inputs_shape), *operands[1:first]]
    plain += [t.reshape(step.state_shape) for t in operands[first:]]
    outputs = gradients[0]
    above = [None if g is None else g.reshape(step.state_shape) for g in gradients[1:]]
    history = None if outputs is None else outputs.reshape(1, *step.state_shape)
    memories = len(step.kernel.plan.memories)
    listed = [*above, history, *[None] * memories]
    given = [g is not None for g in listed]
    histories = [t.reshape(1, *step.state_shape) for t in kept[:-1]]
    nothing = kept[0].new_empty(0)
    last = kept[-1] if math.prod(kept[-1].shape) else nothing
    found = sequence_backward(
        step.kernel.name,
        [g for g in listed if g is not None],
        given,
        plain,
        None,
        None,
        [*histories, last, nothing],
        list(needed),
        0,
    )
    return [
        g.reshape(t.shape) if n else None for g, t, n in zip(found, operands, needed, strict=True)
    ]


def run_step(step: StepWithGradient, *operands: Float[Tensor, "..."]) -> list[Any]:
    """Run a step as a node of autograd's graph.

    Arguments:
        step: The step.
        operands: The inputs, of whose first two axes either may be the time, the weights of the
            step, and the tensors of the state with a further axis of 1.

    Returns:
        The outputs, in the form of the inputs, and the state, in the form of the state before.
    """
    return list(_StepNode.apply(step, *operands))
