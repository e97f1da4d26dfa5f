"""The gradient by every state on the way back: dL/ds after each step."""

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from throughtime.core.cell import Streams
from throughtime.core.learnable import StepwiseModel
from throughtime.core.state import State, map_state, state_tensors
from throughtime.engines import Request, run
from throughtime.learning.learner import Chunk
from throughtime.learning.partials import Partials, elementwise, partials
from throughtime.learning.unrolled import entering, side_by_side, unrolled, with_tensors


def adjoints(
    model: StepwiseModel,
    start: State,
    chunk: Chunk,
    resets: Bool[Tensor, "time batch"],
    streams: Streams,
) -> tuple[State, Float[Tensor, "rows size"]]:
    """The states before each step, and v_k = dL/ds_k of the states after them.

    A step's own loss reaches s_k where its output is a tensor of the state, as h is.

    Of a gated cell with no lag beyond 1, whose `pointwise` can be traced, the step's Jacobian is
    elementwise but for W_hh: it is found for all steps at once, and the way back is one product a
    step. Any other cell is run step by step with its graph.

    Arguments:
        model: its parameters are read.
        start: the state before the chunk.
        chunk: the steps; L is the sum of their losses.
        resets: where a step starts from the cell's initial state: nothing goes back from there.
        streams: of the cell.

    Returns:
        States of time * batch rows, and v with the state's floating tensors side by side, both
        without a graph. What a state holds twice, as a stack does its output, has its gradient at
        the last of its places: there the next step reads it.
    """
    cell: Any = model.cell
    if not elementwise(cell) or cell.lags not in ((), (1,)):
        with torch.enable_grad():
            # older outputs may still be those of the start, by which there is a gradient, too
            start = with_tensors(start, side_by_side(start).detach().requires_grad_())
            steps = unrolled(model, start, chunk.inputs, resets, streams)
            loss = model.losses(steps.outputs, chunk.targets, chunk.weights).sum()
        before = map_state(lambda *rows: torch.cat(rows).detach(), *steps.entering)
        return before, _by_autograd(loss, steps.leaving)
    with torch.no_grad():
        request = Request(cell, chunk.inputs, start, None, resets, streams, "states")
        result = run(request, "auto")
        before = entering(cell, start, result.states, resets)
    rows = tuple(stream.flatten(0, 1) for stream in streams)
    with torch.enable_grad():
        outputs = result.outputs.detach().requires_grad_()
        losses = model.losses(outputs, chunk.targets, chunk.weights)
        (own,) = torch.autograd.grad(losses.sum(), outputs)
    found = partials(cell, before, chunk.inputs.flatten(0, 1), rows)
    return before, _back(found, own, ~resets).flatten(0, 1).flatten(1)


def _back(
    found: Partials, own: Float[Tensor, "time batch hidden"], linked: Bool[Tensor, "time batch"]
) -> Float[Tensor, "time batch fields hidden"]:
    """v_{k-1} = v_k ds_k/ds_{k-1} + dl_{k-1}/ds_{k-1}."""
    cell = found.cell
    matrix = cell.recurrent_matrix(1).detach() if cell.lags else None
    by_gates, by_state = (t.unflatten(0, linked.shape) for t in (found.by_past, found.by_state))
    if not linked[1:].all():
        by_gates, by_state = (
            torch.where(linked[..., None, None, None], partial, 0)
            for partial in (by_gates, by_state)
        )
    # a partial derivative that is zero everywhere, as most of them are, costs nothing
    fields = range(by_state.shape[2])
    gates = {i: by_gates[:, :, i].unbind() for i in fields if by_gates[:, :, i].any()}
    direct = {(i, j): by_state[:, :, i, j].unbind() for i, j in found.direct}
    v = torch.zeros_like(by_state[:, :, 0])
    v[:, :, 0] = own
    rows = [v[:, :, i].unbind() for i in fields]
    wide = [v[:, :, i, None].unbind() for i in fields]
    back = torch.empty_like(by_gates[0, :, 0])
    flat = back.flatten(1)
    for k in range(len(own) - 1, 0, -1):
        for (i, j), partial in direct.items():
            rows[j][k - 1].addcmul_(rows[i][k], partial[k])
        if matrix is not None:
            back.zero_()
            for i, partial in gates.items():
                back.addcmul_(wide[i][k], partial[k])
            rows[0][k - 1].addmm_(flat, matrix)
    return v


def _by_autograd(loss: Tensor, states: list[State]) -> Float[Tensor, "rows size"]:
    """dL/ds of each state, side by side and below each other."""
    every = [[s for s in state_tensors(state) if s.is_floating_point()] for state in states]
    distinct = list({id(s): s for tensors in every for s in tensors}.values())
    found = torch.autograd.grad(loss, distinct, allow_unused=True, materialize_grads=True)
    left = dict(zip(map(id, distinct), found, strict=True))
    rows = [[left.pop(id(s), torch.zeros_like(s)) for s in reversed(row)] for row in every]
    return torch.cat([torch.cat(row[::-1], -1) for row in rows])
