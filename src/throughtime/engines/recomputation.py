"""Which states to store and which steps to run again, so that a backward pass fits in a budget."""

import functools
import math
from typing import Any, TypeAlias

import numpy as np

from throughtime.core.errors import ConfigurationError

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

    Arguments:
        time: steps of the sequence, at least 1.
        steps: of a segment, at least 1.

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
        time: steps of the sequence, at least 1.
        state: bytes of a state.
        step: bytes of all that the backward pass through a step needs, at least 1.
    """
    return max(1, math.isqrt(time * state // step))


def kept_by_segments(time: int, segment: int, state: int, step: int) -> int:
    """Bytes that equal segments keep: their first states, and the steps of one.

    Arguments:
        time: steps of the sequence.
        segment: steps of a segment.
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
        time: steps of the sequence, at least 1.
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
        blocks: of the sequence.
        fitting: by how many states are kept, how many blocks fit beside them.
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
