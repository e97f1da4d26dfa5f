"""A run whose backward pass runs stretches of it again, from states that were stored."""

import dataclasses
from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from throughtime.core.errors import EngineRefusalError
from throughtime.core.state import State, map_state
from throughtime.engines.engine import Request, Result
from throughtime.engines.options import EngineOptions
from throughtime.engines.recomputation import Recomputation, steps_of

Run = Callable[[Request], Result]


def run_again(request: Request, plan: Recomputation, run: Run) -> Result:
    """Run a request by a plan; what is random was drawn before, so that a second run sees the same.

    Arguments:
        request: what to run.
        plan: of as many steps as the inputs have.
        run: an engine's way of running a stretch, of which it keeps all that a backward pass needs.

    Returns:
        Outputs and states as `Result` says.
    """
    time, batch = request.inputs.shape[:2]
    request = dataclasses.replace(request, options=EngineOptions())  # of each stretch
    if isinstance(plan, int):
        return run(request)
    # copies: the caller may use theirs again before the backward pass has read them
    request = dataclasses.replace(
        request,
        lengths=None if request.lengths is None else request.lengths.clone(),
        resets=None if request.resets is None else request.resets.clone(),
    )
    state = map_state(torch.clone, request.state)
    pieces, state = _walk(request, state, plan, 0, run, _version(request.inputs))
    last: Tensor | None = None
    if request.outputs == "last":
        for result, rows in pieces:
            last = result.outputs if last is None else _put(last, result.outputs, rows)

    def joined(parts: list[Tensor]) -> Tensor:
        missing = time - sum(len(p) for p in parts)
        more = [parts[0].new_zeros(missing, *parts[0].shape[1:])] if missing else []
        return torch.cat([*parts, *more])

    states = [
        map_state(lambda s, rows=rows: _whole(s, rows, batch), result.states)
        for result, rows in pieces
        if result.states is not None
    ]
    return Result(
        joined([_whole(r.outputs, rows, batch) for r, rows in pieces]) if last is None else last,
        state,
        map_state(lambda *parts: joined(list(parts)), *states) if states else None,
    )


Pieces = list[tuple[Result, Tensor | None]]


def _version(inputs: Tensor) -> int:
    """How often a tensor was changed in place; those of inference mode do not count it."""
    return -1 if inputs.is_inference() else inputs._version


def _walk(
    request: Request, state: State, plan: Recomputation, start: int, run: Run, version: int
) -> tuple[Pieces, State]:
    """The results of the stretches that a plan has, with the sequences that reach each, and the
    state after them."""
    if _version(request.inputs) != version:
        raise EngineRefusalError(
            "running a stretch again",
            got="inputs that were changed in place since the forward pass",
            fix="Change a clone of them, or run without checkpoints and memory_budget.",
        )
    pieces: Pieces = []
    while not isinstance(plan, int):
        first, plan = plan
        found, state = checkpoint(
            _walk,
            request,
            state,
            first,
            start,
            run,
            version,
            use_reentrant=False,
            preserve_rng_state=False,
        )
        pieces += found
        start += steps_of(first)
    part, rows = _part(request, state, start, start + plan)
    if part is None:
        return pieces, state  # every sequence has ended
    result = run(part)
    return [*pieces, (result, rows)], _put(state, result.state, rows)


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
    return map_state(lambda w, p: _placed(p, w, rows, 0), whole, part)


def _whole(grid: Tensor, rows: Tensor | None, batch: int) -> Tensor:
    """A (time, rows, ...) grid as one of all sequences, zeros for those that have ended."""
    if rows is None:
        return grid
    zeros = grid.new_zeros(grid.shape[0], batch, *grid.shape[2:])
    return _placed(grid, zeros, rows, 1)


def _placed(part: Tensor, whole: Tensor, rows: Tensor, axis: int) -> Tensor:
    """`whole.index_copy(axis, rows, part)`, of which autograd keeps no copy of the part."""
    places = torch.arange(len(rows), len(rows) + whole.shape[axis], device=rows.device)
    places[rows] = torch.arange(len(rows), device=rows.device)
    return torch.cat([part, whole], axis).index_select(axis, places)
