"""Calls of one step as compiled calls, with little of the layer's Python around them."""

import threading
import weakref
from collections.abc import Sequence
from operator import is_
from typing import Any, NamedTuple, final

import torch
from torch import Tensor, nn

from throughtime.core.capture import capturing, transformed
from throughtime.core.cell import Cell
from throughtime.core.state import State, state_tensors
from throughtime.engines import (
    CompiledStep,
    Refusal,
    Request,
    StepWithGradient,
    being_recorded,
    compiled_step,
    run_step,
    step_with_gradient,
)

MOST = 32
"""The sequences of a call that runs as compiled steps: as many as need no packed weights."""
_calls: weakref.WeakKeyDictionary[nn.Module, dict[tuple[int, int], "_Call"]] = (
    weakref.WeakKeyDictionary()
)


@final
class _Call(NamedTuple):
    """Compiled steps for calls of one step, of one thread and batch size.

    Attributes:
        steps: A step for each level without gradient; empty where a cell has none.
        trained: A step for each level with gradient; empty where a cell has none.
        parameters: The parameters of the layer.
        built_for: All else that the steps are built for.
        form: A state of one sequence.
        start: The initial state (levels, batch, hidden) a tensor; empty where it is not zero.
    """

    steps: list[CompiledStep]
    trained: list[StepWithGradient]
    parameters: list[Tensor | None]
    built_for: list[Any]
    form: State
    start: list[Tensor]


def run_one_step(layer: Any, x: Tensor, hx: Any) -> tuple[Tensor, State] | None:
    """Run a layer over one step by compiled calls; None where that cannot be.

    Arguments:
        layer: The layer.
        x: The layer's input, of one step, with a batch axis.
        hx: The layer's state, or None.

    Returns:
        The output and the state, as the layer returns them.
    """
    batch = x.shape[1 - layer.batch_first]
    if type(x) is not Tensor or not x.is_cpu or not 0 < batch <= MOST:
        return None
    if capturing() or transformed() or torch._C._len_torch_dispatch_stack() or being_recorded():
        return None
    call = _call_of(layer, x, batch)
    steps, form = call.steps, call.form
    if not steps or hasattr(form, "past"):
        return None
    given = call.start if hx is None else hx if isinstance(hx, tuple) else (hx,)
    if len(given) != len(form):
        return None
    shape, dtype = (len(steps), batch, steps[0].hidden_size), steps[0].dtype
    for tensor in given:
        if type(tensor) is not Tensor or tensor.shape != shape or tensor.dtype is not dtype:
            return None
        if not tensor.is_cpu or not tensor.is_contiguous():
            return None
    if x.shape[2] != layer.input_size or x.dtype is not dtype:
        return None
    if torch.is_grad_enabled():
        if not call.trained or not all(map(is_, call.parameters, layer._parameters.values())):
            return None
        y, after = _with_gradient(call.trained, x.contiguous(), given)
    else:
        y, after = _without_gradient(steps, x.contiguous(), given)
    return y, after[0] if len(after) == 1 else type(form)(*after)


def _call_of(layer: Any, x: Tensor, batch: int) -> _Call:
    """Return the steps of a layer, built where something that they depend on has changed."""
    of_layer = _calls.setdefault(layer, {})
    key = threading.get_ident(), batch
    call = of_layer.get(key)
    if call is not None and call.built_for == built_for(layer):
        return call
    cells = layer.cells()
    like = next(iter(cells[0].parameters()), x)
    states = [c.initial_state(batch, dtype=like.dtype, device=like.device) for c in cells]
    steps = compiled_steps(layer, batch)
    start: list[Tensor] = []
    if steps and all(cell.starts_from_zero for cell in cells):
        start = [torch.stack(parts) for parts in zip(*map(state_tensors, states), strict=True)]
    parameters = list(layer._parameters.values())
    trained = _trained(cells, states, parameters) if steps else []
    call = _Call(steps, trained, parameters, built_for(layer), states[0], start)
    if len(of_layer) >= 16:
        of_layer.clear()  # threads that have ended
    of_layer[key] = call
    return call


def _trained(
    cells: Sequence[Cell], states: Sequence[State], parameters: Sequence[Tensor | None]
) -> list[StepWithGradient]:
    """Return a step with gradient for each level; an empty list where one cannot be."""
    own = {id(parameter) for parameter in parameters}
    trained: list[StepWithGradient] = []
    for cell, state in zip(cells, states, strict=True):
        x = state.h.new_zeros(1, len(state.h), cell.input_size)
        step = step_with_gradient(Request(cell, x, state))
        if isinstance(step, Refusal) or not own.issuperset(map(id, step.weights)):
            return []
        trained.append(step)
    return trained


def _with_gradient(
    steps: Sequence[StepWithGradient], x: Tensor, given: Sequence[Tensor]
) -> tuple[Tensor, list[Tensor]]:
    """Return the output and the state, with their gradient."""
    if len(steps) == 1:
        y, *after = run_step(steps[0], x, *steps[0].weights, *given)
        return y, after
    ends: list[list[Tensor]] = []
    for level, step in enumerate(steps):
        before = [tensor[level : level + 1] for tensor in given]
        x, *after = run_step(step, x, *step.weights, *before)
        ends.append(after)
    return x, [torch.cat(parts) for parts in zip(*ends, strict=True)]


def _without_gradient(
    steps: Sequence[CompiledStep], x: Tensor, given: Sequence[Tensor]
) -> tuple[Tensor, list[Tensor]]:
    """Return the output and the state."""
    y = torch.empty((*x.shape[:2], steps[0].hidden_size), dtype=x.dtype)
    after = [torch.empty_like(tensor) for tensor in given]
    if len(steps) == 1:
        steps[0](x, given, after, y)
        return y, after
    for level, step in enumerate(steps):
        new = [tensor[level] for tensor in after]
        step(x, [t[level] for t in given], new, y if level == len(steps) - 1 else None)
        x = new[0]
    return y, after


def built_for(layer: Any) -> list[Any]:
    """Return all that compiled steps are built for, beside the values of the weights."""
    found: list[Any] = [layer.engine, layer.training, torch._C._is_any_autocast_enabled()]
    found += len(layer._modules), len(layer._replaced)
    for tensor in layer._parameters.values():
        found.append(tensor is not None and tensor.data_ptr())
    for tensor in layer._buffers.values():
        found.append(tensor is not None and tensor.data_ptr())
    return found


def compiled_steps(layer: Any, batch_size: int) -> list[CompiledStep]:
    """Return a compiled step for each level of a layer; an empty list where one cannot be."""
    if layer.engine not in ("auto", "native") or layer.bidirectional:
        return []
    if layer._modules or layer._replaced:
        return []  # parametrised weights are computed for each call
    if torch._C._is_any_autocast_enabled() or (layer.dropout > 0 and layer.training):
        return []
    steps: list[CompiledStep] = []
    for cell in layer.cells():
        if cell.streams:
            return []
        like = next(iter(cell.parameters()), torch.empty(0))
        x = like.new_zeros(1, batch_size, cell.input_size)
        state = cell.initial_state(batch_size, dtype=like.dtype, device=like.device)
        step = compiled_step(Request(cell, x, state))
        if isinstance(step, Refusal):
            return []
        steps.append(step)
    return steps
