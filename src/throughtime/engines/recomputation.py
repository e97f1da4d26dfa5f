"""Plans of the states to store and the steps to run again in a backward pass, and runs by them."""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from throughtime.core.errors import ConfigurationError, EngineRefusalError
from throughtime.core.state import State, map_state
from throughtime.engines.engine import EngineOptions, Request, Result

Recomputation: TypeAlias = int | tuple[Any, Any]
"""A number of steps of which everything is stored; or the plans of two parts of a sequence, of
which the first is run again when the backward pass has come to its end, from the state before."""

BLOCKS = 128
"""A sequence is divided between blocks of so many, or fewer steps: at most this many blocks."""


def steps_of(plan: Recomputation) -> int:
    """The length of the sequence that a plan is for."""
    steps = 0
    while not isinstance(plan, int):
        first, plan = plan
        steps += steps_of(first)
    return steps + plan


def every(time: int, steps: int) -> Recomputation:
    """Segments of as many steps each, whose first states are stored.

    Example:
        >>> every(10, 4)
        (4, (4, 2))
    """
    starts = range(0, time, steps)
    plan: Recomputation = time - starts[-1]
    for _ in starts[1:]:
        plan = (steps, plan)
    return plan


def segment_that_keeps_least(time: int, state: int, step: int) -> int:
    """Steps of the segments whose first states, and the steps of one, keep the least together.

    Arguments:
        state: bytes of a state.
        step: bytes of all that the backward pass through a step needs, at least 1.
    """
    return max(1, math.isqrt(time * state // step))


def kept_by_segments(time: int, segment: int, state: int, step: int) -> int:
    """Bytes that equal segments keep: their first states, and the steps of one.

    Arguments:
        state: bytes of a state.
        step: bytes of all that the backward pass through a step needs.
    """
    return -(-time // segment) * state + min(segment, time) * step


@functools.lru_cache(maxsize=256)
def within(time: int, budget: int, state: int, step: int) -> Recomputation:
    """The least recomputation within a budget of memory (Gruslys et al. 2016).

        C(t, m) = t                                             if t * step <= m
        C(t, m) = min over 0 < y < t of  y + C(t - y, m - state) + C(y, m)     else

    C is the number of steps that are run forward, each stretch from the state that is stored before
    it. After y steps a state is stored; the rest is run, forward and back, with what memory is
    left, then the y steps with all of it again. Of plans alike in this it has the fewest parts.

    Arguments:
        budget: bytes for what is kept from the forward pass to the backward pass.
        state: bytes of a state.
        step: bytes of all that the backward pass through a step needs.

    Raises:
        ConfigurationError: the budget holds too little for any plan.

    Example:
        >>> within(8, budget=8, state=1, step=1), within(8, budget=4, state=1, step=1)
        (8, (3, (3, 2)))

    Source: A. Gruslys et al., "Memory-efficient backpropagation through time", NIPS 2016.

    Differs from the paper in: of its three ways to use memory it stores states on the way and all
    of a last stretch, but not of steps between; y is a multiple of a block, time / 128 rounded up.
    """
    if time * step <= budget:
        return time
    block = -(-time // BLOCKS)
    blocks = -(-time // block)
    least = block * step
    if budget < least + state:
        # of very long sequences a block may keep more than the segments that keep the least
        segment = segment_that_keeps_least(time, state, step)
        needed = kept_by_segments(time, segment, state, step)
        if needed <= budget:
            return every(time, segment)
        raise ConfigurationError(
            "memory_budget",
            got=f"{budget:,} bytes",
            expected=f"at least {min(least + state, needed):,} for {time:,} steps",
            fix="It is of one layer and direction. Raise it, or run shorter sequences.",
        )
    most = min(blocks - 1, (budget - least) // max(state, 1))
    costs, first = _tables(blocks, [(budget - kept * state) // least for kept in range(most + 1)])
    assert np.isfinite(costs[0][blocks])

    def plan(count: int, kept: int, steps: int) -> Recomputation:
        y = int(first[kept][count])
        if y == 0:
            return steps
        return (plan(y, kept, y * block), plan(count - y, kept + 1, steps - y * block))

    return plan(blocks, 0, time)


def _tables(blocks: int, fitting: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """C by how many states are kept and by blocks, and y, 0 where all is stored.

    Arguments:
        fitting: Number of blocks that fit beside each number of kept states.
    """
    fits = np.array(fitting)
    cost = np.full((len(fits) + 1, blocks + 1), np.inf)  # none fits beside one state more
    cost[:-1, 0] = 0
    first = np.zeros((len(fits), blocks + 1), dtype=int)
    part = 1 / blocks  # of plans that run as many steps, the one with the fewest parts
    for t in range(1, blocks + 1):
        y = np.arange(1, t)
        total = np.concatenate(
            [np.where(fits >= t, t, np.inf)[:, None], y + part + cost[1:, t - y] + cost[:-1, y]], 1
        )
        first[:, t] = total.argmin(1)
        cost[:-1, t] = total.min(1)
    return cost, first


Run = Callable[[Request], Result]


def run_again(request: Request, plan: Recomputation, run: Run) -> Result:
    """Run a request by a plan. Random numbers were drawn before: a second run has the same.

    Arguments:
        plan: A plan of as many steps as the inputs have.
        run: The function that runs a stretch and keeps all that a backward pass reads.

    Returns:
        Outputs and states as in `Result`.
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
    """Return the number of changes in place; tensors of inference mode do not count them."""
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
