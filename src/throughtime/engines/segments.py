"""The eager engine by segments: states are kept at their borders, and the rest is run again."""

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from throughtime.core.state import State, map_state
from throughtime.engines.engine import Request, Result
from throughtime.engines.loop import unroll


def unroll_in_segments(request: Request, every: int) -> Result:
    """The loop over time, of which the backward pass runs each segment once more.

    Arguments:
        request: what to run.
        every: steps of a segment, at least 1.

    Returns:
        Outputs and states as `Result` says.
    """
    time, batch = request.inputs.shape[:2]
    state, outputs, states = request.state, [], []
    last: Tensor | None = None
    for start in range(0, time, every):
        part, rows = _part(request, state, start, min(start + every, time))
        if part is None:
            break  # every sequence has ended
        # what is random was drawn before the run, so that a second one sees the same
        result = checkpoint(unroll, part, use_reentrant=False, preserve_rng_state=False)
        assert isinstance(result, Result)
        state = _put(state, result.state, rows)
        if request.outputs == "last":
            last = result.outputs if last is None else _put(last, result.outputs, rows)
        else:
            outputs.append(_whole(result.outputs, rows, batch))
        if result.states is not None:
            states.append(map_state(lambda s, rows=rows: _whole(s, rows, batch), result.states))

    def joined(parts: list[Tensor]) -> Tensor:
        missing = time - sum(len(p) for p in parts)
        more = [parts[0].new_zeros(missing, *parts[0].shape[1:])] if missing else []
        return torch.cat([*parts, *more])

    return Result(
        last if last is not None else joined(outputs),
        state,
        map_state(lambda *parts: joined(list(parts)), *states) if states else None,
    )


def _part(
    request: Request, state: State, start: int, stop: int
) -> tuple[Request | None, Tensor | None]:
    """The request of a segment, and which sequences reach it; None where none does, or all."""
    at, rows, lengths = slice(start, stop), None, None
    if request.lengths is not None:
        reaching = request.lengths > start
        if not bool(reaching.any()):
            return None, None
        lengths = (request.lengths - start).clamp(max=stop - start)
        if not bool(reaching.all()):
            rows = reaching.nonzero()[:, 0]
            lengths = lengths[rows]
            rows = rows.to(request.inputs.device)
        if bool((lengths == stop - start).all()):
            lengths = None

    def cut(grid: Tensor) -> Tensor:
        return grid[at] if rows is None else grid[at].index_select(1, rows)

    part = Request(
        request.cell,
        cut(request.inputs),
        state if rows is None else map_state(lambda s: s.index_select(0, rows), state),
        lengths,
        None if request.resets is None else cut(request.resets),
        tuple(cut(stream) for stream in request.streams),
        request.outputs,
        request.options,
    )
    return part, rows


def _put(whole: State, part: State, rows: Tensor | None) -> State:
    """The states of some sequences in the place of those before; of all, if rows is None."""
    if rows is None:
        return part
    return map_state(lambda w, p: w.index_copy(0, rows, p), whole, part)


def _whole(grid: Tensor, rows: Tensor | None, batch: int) -> Tensor:
    """A (time, rows, ...) grid as one of all sequences, zeros for those that have ended."""
    if rows is None:
        return grid
    return grid.new_zeros(grid.shape[0], batch, *grid.shape[2:]).index_copy(1, rows, grid)
