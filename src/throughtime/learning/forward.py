"""The pass forward through a chunk that all learners share which never go back in time."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from throughtime.core.cell import Cell, Streams, advance, recurrent_weight
from throughtime.core.errors import LearnerRefusalError
from throughtime.core.gated import GatedCell
from throughtime.core.jacobian import (
    GatedJacobian,
    GeneralJacobian,
    StepJacobian,
    initial_influence,
    trained_parameters,
)
from throughtime.core.scoring import StepwiseModel
from throughtime.core.state import Layout, State, map_state
from throughtime.engines import Request, run
from throughtime.engines.trace.plan import elementwise
from throughtime.learning.learner import (
    Chunk,
    LearnerState,
    Update,
    draws,
    generator_of,
    refuse_autocast,
    starts,
    states_before,
    together,
    trained,
)

_VALUES, _ROWS = 2**22, 2**13  # at hand at once, for as many steps as that allows

Visit = Callable[["Step", State], tuple[Tensor, State]]
"""The learner's part of a step: the gradient by the past's parameters, (count,), and its memory
after the step, from the step and the memory before it."""

Drawing = Callable[[Bool[Tensor, " batch"], torch.Generator], tuple[Tensor, ...]]
"""A learner's random numbers for one step, from the sequences that start afresh at it."""


@dataclasses.dataclass(frozen=True, eq=False)
class Step:
    """One step of a batch.

    Attributes:
        jacobian: derivatives of the step by state and parameters, a sequence a row.
        initial: function that returns ds_0/dtheta, the influence on the cell's initial state.
        fresh: True for sequences that start from the initial state.
        credit: dL_t/ds by the state before the step, through the step's own loss alone.
        drawn: the learner's random numbers.
    """

    jacobian: StepJacobian
    initial: Callable[[], Float[Tensor, "size count"]]
    fresh: Bool[Tensor, " batch"]
    credit: Float[Tensor, "batch size"]
    drawn: tuple[Tensor, ...] = ()


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

        dL_t/dtheta = dL_t/ds_{t-1} ds_{t-1}/dtheta + the part of step t itself

    The parameters do not change within the chunk. So all that does not need the learner's memory
    (states, losses and derivatives) is found for many steps at once.

    Arguments:
        visit: the learner's part, called once a step, in order.
        drawing: the learner's random numbers; None for none.
        local: If True, the credit leaves out all that passes through the recurrent matrices.

    Raises:
        LearnerRefusalError: under autocast.
    """
    refuse_autocast(
        "learning forward in time",
        chunk,
        "an influence adds up over all steps, and so does its error",
    )
    random, parameters = generator_of(state), forward_parameters(model)
    split = separable(model.cell)
    initial = functools.cache(lambda: initial_influence(model.cell, parameters))
    rows = min(_ROWS, _VALUES // _width(model, state.cell, split))
    at_once = max(1, rows // chunk.inputs.shape[1])
    gradients = {name: torch.zeros_like(p) for name, p in trained(model).items()}
    past = chunk.inputs.new_zeros(sum(p.numel() for p in parameters.values()))
    losses: list[Tensor] = []
    streams: Streams = ()
    for start in range(0, len(chunk), at_once):
        part = chunk.part(start, start + at_once)
        loss, own, steps, cell, streams = _steps(
            model, state, part, drawing, random, streams, initial, split, local
        )
        losses.append(loss)
        for name, gradient in own.items():
            gradients[name] += gradient
        memory = state.memory
        while steps:  # none is kept beyond its own turn
            learnt, memory = visit(steps.pop(0), memory)
            past = past + learnt
        state = LearnerState(cell, torch.ones_like(state.started), memory, random.get_state())
    for name, gradient in _by_name(past, parameters).items():
        gradients[name] += gradient
    return Update(torch.stack(losses).sum(), gradients, state)


def forward_parameters(model: StepwiseModel) -> dict[str, Tensor]:
    """Return theta: the trained parameters of the cell, detached, by name within the cell.

    Raises:
        LearnerRefusalError: no parameter of the cell is trained, or one has two names.
    """
    shared = _in_two_places(model.cell)
    if shared or not any(p.requires_grad for p in model.cell.parameters()):
        raise LearnerRefusalError(
            "learning forward in time",
            got="a parameter that the cell has twice" if shared else "a cell that is frozen",
            expected="parameters of the cell that are trained, each in one place",
            fix="BPTT() learns it.",
        )
    return trained_parameters(model.cell)


def _in_two_places(cell: Cell) -> bool:
    """True if a parameter has two names, but for one that a submodule shares with those above it.

    `bind` replaces a shared tensor there by itself.
    """
    first: dict[int, str] = {}
    for name, parameter in cell.named_parameters(remove_duplicate=False):
        module = name[: name.rfind(".") + 1]
        if id(parameter) not in first:
            first[id(parameter)] = module
        elif module == first[id(parameter)] or not module.startswith(first[id(parameter)]):
            return True
    return False


def forward_sizes(model: StepwiseModel) -> tuple[int, int]:
    """Return the width of the cell's state, as one vector, and of theta.

    Raises:
        LearnerRefusalError: as `forward_parameters`.
    """
    parameters, like = forward_parameters(model), next(model.cell.parameters())
    state = model.cell.initial_state(1, dtype=like.dtype, device=like.device)
    return Layout(state).size, sum(p.numel() for p in parameters.values())


def separable(cell: Cell) -> bool:
    """Return True if a step is elementwise after products with weights, the only parameters."""
    if not isinstance(cell, GatedCell) or not elementwise(cell):
        return False
    linear = {"weight_ih", "bias_ih", "bias_hh", *map(recurrent_weight, cell.lags)}
    trained = {name for name, p in cell.named_parameters() if p.requires_grad}
    own = type(cell).recurrent_matrix is not GatedCell.recurrent_matrix
    return trained <= linear and cell.constrained is None and cell.heads == 1 and not own


def _by_name(flat: Float[Tensor, " count"], parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A gradient by theta, by the parameters' names within the model."""
    parts = flat.split([p.numel() for p in parameters.values()])
    return {
        f"cell.{name}": part.view_as(p)
        for (name, p), part in zip(parameters.items(), parts, strict=True)
    }


def _width(model: StepwiseModel, state: State, split: bool) -> int:
    """About the number of values that a step takes while all steps are at hand."""
    cell: Any = model.cell
    size = Layout(state).size
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
    entering: Streams,
    initial: Callable[[], Tensor],
    split: bool,
    local: bool,
) -> tuple[Tensor, dict[str, Tensor], list[Step], State, Streams]:
    """A chunk's loss, its steps' own gradients, the steps, and the cell's state and streams after
    them."""
    time, batch = chunk.inputs.shape[:2]
    resets, cell = starts(state, chunk), model.cell
    each: list[Streams] = []
    drawn: list[tuple[Tensor, ...]] = []
    drawing_streams = draws(model, state.cell, resets, random, entering)
    for fresh, streams in zip(resets, drawing_streams, strict=True):
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
    before, layout = states_before(cell, state.cell, leaving, resets), Layout(state.cell)
    x, rows = chunk.inputs.flatten(0, 1), tuple(stream.flatten(0, 1) for stream in streams)
    parameters = trained(model)
    with torch.enable_grad():
        s = layout.flatten(before).detach().requires_grad_()
        entered = layout.unflatten(s, layout.whole(before))
        output, after = _advance(cell, cell.project(x), before, entered, rows, local)
        losses = model.losses(output.unflatten(0, (time, batch)), chunk.targets, chunk.weights)
        loss = losses.sum() / batch
        credit, *own = torch.autograd.grad(
            loss, [s, *parameters.values()], allow_unused=True, materialize_grads=True
        )
    jacobian: Any = GatedJacobian if split else GeneralJacobian
    found, credits = jacobian(cell, before, x, rows), credit.unflatten(0, (time, batch))
    each_rows = [found.rows(slice(t * batch, (t + 1) * batch)) for t in range(time)]
    steps = [Step(each_rows[t], initial, resets[t], credits[t], drawn[t]) for t in range(time)]
    end = map_state(lambda s: s[-batch:].detach().clone(), after)  # not all steps' memory
    return loss.detach(), dict(zip(parameters, own, strict=True)), steps, end, each[-1]


def _advance(
    cell: Any, projected: Tensor, held: State, state: State, streams: Streams, local: bool
) -> tuple[Tensor, State]:
    """A step, of which the matrices read a constant state if it is local."""
    if not local:
        return advance(cell, projected, state, streams)
    return cell.step_of_gates(*cell._gates(projected, held), state, streams)
