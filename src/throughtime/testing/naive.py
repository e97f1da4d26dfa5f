"""The plainest way to run a cell: one sequence at a time, one step at a time."""

import torch
from torch import Tensor

from throughtime.core.cell import Cell, advance
from throughtime.core.state import State, map_state
from throughtime.engines import Request


def naive_run(request: Request) -> tuple[Tensor, State, State]:
    """Run a request with nothing but `project` and `step` on single rows.

    Arguments:
        request: as for an engine; `outputs` is not read.

    Returns:
        Outputs (time, batch, output), the state after each last valid step, and the states after
        every step, (time, batch, ...) a field; zeros beyond a sequence's length.
    """
    time, batch = request.inputs.shape[:2]
    rows: list[tuple[Tensor, State, State]] = []
    for b in range(batch):
        length = time if request.lengths is None else int(request.lengths[b])
        state = map_state(lambda s, b=b: s[b : b + 1], request.state)
        outputs: list[Tensor] = []
        states: list[State] = []
        for t in range(length):
            if request.resets is not None and bool(request.resets[t, b]):
                state = _fresh(request.cell, request.state)
            streams = tuple(s[t, b : b + 1] for s in request.streams)
            projected = request.cell.project(request.inputs[t, b : b + 1])
            output, state = advance(request.cell, projected, state, streams)
            outputs.append(output)
            states.append(state)
        rows.append((_padded(outputs, time), state, _stack_padded(states, time)))
    return (
        torch.cat([outputs for outputs, _, _ in rows], 1),
        map_state(lambda *s: torch.cat(s), *(state for _, state, _ in rows)),
        map_state(lambda *s: torch.cat(s, 1), *(states for _, _, states in rows)),
    )


def _fresh(cell: Cell, like: State) -> State:
    return cell.initial_state(1, dtype=like.h.dtype, device=like.h.device)


def _padded(steps: list[Tensor], time: int) -> Tensor:
    return torch.stack([*steps, *(torch.zeros_like(steps[0]) for _ in range(time - len(steps)))])


def _stack_padded(states: list[State], time: int) -> State:
    return map_state(lambda *s: _padded(list(s), time), *states)
