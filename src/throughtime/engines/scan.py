"""The scan engine: cells whose state is linear in its past, in parallel over time."""

import functools
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from throughtime.engines.engine import Engine, Refusal, Request, Result, Runner


@final
class ScanEngine(Engine):
    """Runs h_t = a_t * h_{t-1} + b_t in about log2(time) passes over all steps at once.

    A pair of steps is a step again: (a, b) after (a', b') is (a a', a b' + b), which is associative
    (Blelloch 1990), so that runs of 1, 2, 4 ... steps are put together in turn (Hillis and Steele
    1986). It does log2(time) times the work of a loop in far fewer operations of torch.
    """

    name = "scan"

    def prepare(self, request: Request) -> Runner | Refusal:
        """Serve cells that give a and b, without memories or checkpoints."""
        if request.cell.linear_step is None:
            return Refusal(f"the state of {type(request.cell).__name__} is not linear in its past")
        if not request.options.stores_all:
            return Refusal("it stores every step, without checkpoints")
        if isinstance(request.inputs.shape[0], torch.SymInt):
            return Refusal("it is captured for one number of time steps, and this is dynamic")
        return functools.partial(_run, request)


def _run(request: Request) -> Result:
    inputs, lengths = request.inputs, request.lengths
    valid: Tensor | None = None
    if lengths is not None:
        steps = torch.arange(inputs.shape[0], device=inputs.device)[:, None]
        valid = (steps < lengths.to(inputs.device))[..., None]
        inputs = torch.where(valid, inputs, 0)  # before anything can make NaN of padding
    linear_step = request.cell.linear_step
    assert linear_step is not None, "refused by prepare"
    a, b = linear_step(request.cell.project(inputs))
    if request.resets is not None:
        like = request.state.h
        fresh = request.cell.initial_state(like.shape[0], dtype=like.dtype, device=like.device)
        starts = request.resets[..., None]
        a, b = torch.where(starts, 0, a), torch.where(starts, a * fresh.h + b, b)
    b = torch.cat([(a[0] * request.state.h + b[0])[None], b[1:]])
    h = linear_scan(a, b)
    if valid is not None:
        h = torch.where(valid, h, 0)
    last = h[-1]
    if lengths is not None:
        rows = torch.arange(h.shape[1], device=h.device)
        last = h[lengths.to(h.device) - 1, rows]
    state = type(request.state)
    return Result(
        last if request.outputs == "last" else h,
        state(last),
        state(h) if request.outputs == "states" else None,
    )


def linear_scan(
    a: Float[Tensor, "time batch hidden"], b: Float[Tensor, "time batch hidden"]
) -> Float[Tensor, "time batch hidden"]:
    """Return all h of h_t = a_t * h_{t-1} + b_t, from h_0 = b_0.

    Arguments:
        a: The factors; the first is not read.
        b: The summands.

    Example:
        >>> half, one = torch.full((4, 1, 1), 0.5), torch.ones(4, 1, 1)
        >>> linear_scan(half, one).flatten().tolist()
        [1.0, 1.5, 1.75, 1.875]
    """
    span, time = 1, a.shape[0]
    while span < time:
        # before: each entry stands for the last `span` steps; after: for twice as many
        b = torch.cat([b[:span], a[span:] * b[:-span] + b[span:]])
        a = torch.cat([a[:span], a[span:] * a[:-span]])
        span *= 2
    return b
