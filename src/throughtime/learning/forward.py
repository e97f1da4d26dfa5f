"""Going forward through a chunk: what every learner that never goes back does at a step."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

from throughtime.core.cell import Streams, advance
from throughtime.core.dynamics import Dynamics
from throughtime.core.learnable import StepwiseModel
from throughtime.core.state import State, map_state
from throughtime.engines import Request, run
from throughtime.learning.learner import (
    Chunk,
    LearnerState,
    Update,
    draws,
    generator_of,
    refuse_autocast,
    starts,
    together,
    trained,
)
from throughtime.learning.partials import partials, separable
from throughtime.learning.step_map import Step, StepMap, holding
from throughtime.learning.unrolled import entering, side_by_side, with_tensors

_VALUES, _ROWS = 2**22, 2**13  # at hand at once, for as many steps as that allows

Visit = Callable[[StepMap, Step, State], tuple[Tensor, State]]
"""What the past's parameters have done to a step's loss, (count,), and the memory after it."""

Drawing = Callable[[Bool[Tensor, " batch"], torch.Generator], tuple[Tensor, ...]]
"""A learner's random numbers for one step, which may start afresh."""


def go_forward(
    model: StepwiseModel,
    state: LearnerState,
    chunk: Chunk,
    visit: Visit,
    drawing: Drawing | None = None,
    *,
    local: bool = False,
) -> Update:
    """Step through a chunk: each loss's own gradient, and what the learner adds for the past.

        dL_t/dtheta = dL_t/ds_{t-1} ds_{t-1}/dtheta + what step t itself does

    The parameters stay what they are, so all that does not need the learner's memory, states,
    losses and partial derivatives, is found for many steps at once.

    Arguments:
        model: to be taught.
        state: before the chunk.
        chunk: the steps.
        visit: the learner's part; the memory that it is given is as it was after the step before.
        drawing: its random numbers; None for none.
        local: whether the credit is that of `holding` the state before the step.

    Raises:
        LearnerRefusalError: under autocast.
    """
    refuse_autocast(
        "learning forward in time",
        chunk,
        "an influence adds up over all steps, and so does its error",
    )
    random, cell_map = generator_of(state), StepMap(model)
    split = separable(model.cell)
    rows = min(_ROWS, _VALUES // _width(model, split))
    at_once = max(1, rows // chunk.inputs.shape[1])
    gradients = {name: torch.zeros_like(p) for name, p in trained(model).items()}
    past = chunk.inputs.new_zeros(cell_map.count)
    losses: list[Tensor] = []
    for start in range(0, len(chunk), at_once):
        part = chunk.part(start, start + at_once)
        loss, own, steps, cell = _steps(model, state, part, drawing, random, split, local)
        losses.append(loss)
        for name, gradient in own.items():
            gradients[name] += gradient
        memory = state.memory
        while steps:  # none is kept beyond its own turn
            taught, memory = visit(cell_map, steps.pop(0), memory)
            past = past + taught
        state = LearnerState(cell, torch.ones_like(state.started), memory, random.get_state())
    for name, gradient in cell_map.named(past).items():
        gradients[name] += gradient
    return Update(torch.stack(losses).sum(), gradients, state)


def _width(model: StepwiseModel, split: bool) -> int:
    """About how many numbers of a step are at hand for all steps at once."""
    cell: Any = model.cell
    size = Dynamics(cell).size
    if not split:
        return size
    gates, results = len(cell.gate_names), 1 + len(cell.memories)
    return results * (2 * gates * cell.hidden_size + size)


def _steps(
    model: StepwiseModel,
    state: LearnerState,
    chunk: Chunk,
    drawing: Drawing | None,
    random: torch.Generator,
    split: bool,
    local: bool,
) -> tuple[Tensor, dict[str, Tensor], list[Step], State]:
    """A chunk's loss, its steps' own gradients, the steps, and the cell's state after them."""
    time, batch = chunk.inputs.shape[:2]
    resets, cell = starts(state, chunk), model.cell
    each: list[Streams] = []
    drawn: list[tuple[Tensor, ...]] = []
    for fresh, streams in zip(resets, draws(model, state.cell, resets, random), strict=True):
        each.append(streams)
        drawn.append(() if drawing is None else drawing(fresh, random))
    streams = together(each, resets.device)
    leaving: State | None = None
    if time > 1:
        early = tuple(stream[:-1] for stream in streams)
        with torch.no_grad():
            request = Request(
                cell, chunk.inputs[:-1], state.cell, None, resets[:-1], early, "states"
            )
            leaving = run(request, "auto").states
    before = entering(cell, state.cell, leaving, resets)
    x, rows = chunk.inputs.flatten(0, 1), tuple(stream.flatten(0, 1) for stream in streams)
    parameters = trained(model)
    with torch.enable_grad():
        s = side_by_side(before).detach().requires_grad_()
        stepped = holding(cell, before) if local else cell
        output, after = advance(stepped, cell.project(x), with_tensors(before, s), rows)
        losses = model.losses(output.unflatten(0, (time, batch)), chunk.targets, chunk.weights)
        loss = losses.sum() / batch
        credit, *own = torch.autograd.grad(
            loss, [s, *parameters.values()], allow_unused=True, materialize_grads=True
        )
    found = partials(cell, before, x, rows).unflattened(time) if split else [None] * time
    s, credit = (rows.unflatten(0, (time, batch)) for rows in (s.detach(), credit))
    steps = [
        Step(
            s[t],
            chunk.inputs[t],
            tuple(stream[t] for stream in streams),
            resets[t],
            credit[t],
            drawn[t],
            found[t],
        )
        for t in range(time)
    ]
    end = map_state(lambda s: s[-batch:].detach().clone(), after)  # not all steps' memory
    return loss.detach(), dict(zip(parameters, own, strict=True)), steps, end
