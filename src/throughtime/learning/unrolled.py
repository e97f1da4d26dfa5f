"""A loop over a chunk whose every state is at hand, for gradients by states."""

import dataclasses

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from throughtime.core.cell import Cell, Streams, advance
from throughtime.core.learnable import StepwiseModel
from throughtime.core.state import State, map_state, state_tensors


@dataclasses.dataclass(frozen=True, eq=False)
class Unrolled:
    """What a loop leaves, with its graph.

    Attributes:
        outputs: (time, batch, output).
        entering: the state that each step starts from.
        leaving: the state after each step: its tensors are those that later steps read, and the
            read-out where the output is one of them, and none of them is made of another.
        end: the state after the last step.
    """

    outputs: Float[Tensor, "time batch output"]
    entering: list[State]
    leaving: list[State]
    end: State


def unrolled(
    model: StepwiseModel,
    start: State,
    inputs: Float[Tensor, "time batch input"],
    resets: Bool[Tensor, "time batch"],
    streams: Streams,
    cut: tuple[str, ...] = (),
) -> Unrolled:
    """Step through a chunk.

    Arguments:
        model: whose cell runs.
        start: the state before the first step.
        inputs: of the steps.
        resets: where a step starts from the cell's initial state.
        streams: of the cell.
        cut: fields of the state by which no gradient goes from one step to the one before.
    """
    cell, like = model.cell, start.h
    fresh = cell.initial_state(resets.shape[1], dtype=like.dtype, device=like.device)
    any_reset = resets.any(1).tolist()
    state, outputs, entering, leaving = start, [], [], []
    for t, projected in enumerate(cell.project(inputs)):
        if any_reset[t]:
            state = restarted(resets[t], fresh, state)
        if cut:
            kept = {name: map_state(torch.Tensor.detach, getattr(state, name)) for name in cut}
            state = state._replace(**kept)
        entering.append(state)
        output, state = _apart(*advance(cell, projected, state, tuple(s[t] for s in streams)))
        outputs.append(output)
        leaving.append(state)
    return Unrolled(torch.stack(outputs), entering, leaving, state)


def _apart(output: Tensor, state: State) -> tuple[Tensor, State]:
    """The same, so that no tensor of the state is made of another: h_t of an LSTM is, of c_t."""
    views: dict[int, Tensor] = {}
    state = map_state(lambda s: views.setdefault(id(s), s.view_as(s)), state)
    return views.get(id(output), output), state


def entering(
    cell: Cell, start: State, leaving: State | None, resets: Bool[Tensor, "time batch"]
) -> State:
    """The states that steps start from, of time * batch rows.

    Arguments:
        cell: whose initial state a reset starts from.
        start: the state before the first step.
        leaving: (time, batch, ...) or (time - 1, batch, ...) the states after the steps; None if
            there is but one.
        resets: where a step starts afresh.
    """
    before = start
    if leaving is not None:
        last = len(resets) - 1
        before = map_state(
            lambda s, after: torch.cat([s, after[:last].flatten(0, 1)]), start, leaving
        )
    if not resets.any():
        return before
    like = start.h
    fresh = cell.initial_state(resets.numel(), dtype=like.dtype, device=like.device)
    return map_state(torch.Tensor.detach, restarted(resets.flatten(), fresh, before))


def restarted(reset: Bool[Tensor, " batch"], fresh: State, state: State) -> State:
    """The initial state where a step starts afresh, else the state as it is.

    Arguments:
        reset: which sequences start afresh.
        fresh: the initial state.
        state: of the step before.
    """
    return map_state(
        lambda f, s: torch.where(reset.reshape(-1, *(1,) * (s.dim() - 1)), f, s), fresh, state
    )


def side_by_side(state: State) -> Float[Tensor, "batch size"]:
    """The floating tensors of a state as one."""
    return torch.cat([s for s in state_tensors(state) if s.is_floating_point()], -1)


def with_tensors(state: State, flat: Float[Tensor, "batch size"]) -> State:
    """The state with its floating tensors from one.

    Arguments:
        state: whose whole numbers stay.
        flat: as `side_by_side` gives it.
    """
    widths = [s.shape[-1] for s in state_tensors(state) if s.is_floating_point()]
    parts = iter(flat.split(widths, -1))
    return map_state(lambda s: next(parts) if s.is_floating_point() else s, state)
