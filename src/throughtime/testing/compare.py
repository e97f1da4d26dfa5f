"""The comparisons of the suites, element by element, and the plainest way to run a cell."""

from collections.abc import Sequence

import torch
from torch import Tensor

from throughtime.core.cell import Cell, advance
from throughtime.core.state import State, map_state, state_tensors
from throughtime.engines import Request


def floating(state: State) -> list[Tensor]:
    """The tensors of a state that can have a gradient."""
    return [t for t in state_tensors(state) if t.is_floating_point()]


def gradients(results: Sequence[Tensor], tensors: Sequence[Tensor]) -> list[Tensor]:
    """The gradients of a fixed random weighting of all results; zeros where there is none."""
    generator = torch.Generator().manual_seed(7)
    total = torch.zeros((), dtype=torch.float64)
    for result in results:
        weights = torch.randn(result.shape, generator=generator, dtype=torch.float64)
        total = total + (result.double() * weights).sum()
    found = torch.autograd.grad(total, list(tensors), allow_unused=True)
    return [torch.zeros_like(t) if g is None else g for t, g in zip(tensors, found, strict=True)]


def close(got: Sequence[Tensor], expected: Sequence[Tensor], tolerance: float) -> None:
    """Assert that tensors are equal, element by element, to a relative or absolute tolerance."""
    torch.testing.assert_close(list(got), list(expected), rtol=tolerance, atol=tolerance)


def naive_run(request: Request) -> tuple[Tensor, State, State]:
    """Run a request with nothing but `project` and `step` on single rows.

    Arguments:
        request: The request; its `outputs` is not read.

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
