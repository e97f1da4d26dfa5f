"""The loop over time by masks: it reads no value, so that a program can be captured of it."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from throughtime.core.binding import bind
from throughtime.core.cell import Cell, advance, prepare
from throughtime.core.errors import EngineRefusalError
from throughtime.core.state import State, map_state, state_tensors
from throughtime.engines.engine import Request, Result

Step = Callable[[Cell, State, State, Sequence[Tensor]], tuple[State, Tensor]]
"""A step: from the cell, its initial state, the state and the step's tensors."""


def run_masked(request: Request) -> Result:
    """Run the loop over time, with masks where sequences start afresh or have ended.

    The steps are written out one after the other where their number is known. Where it is a symbol,
    as under torch.export with a dynamic time, the program has one step in a loop (torch's scan).

    Arguments:
        request: The request; its lengths are not checked.

    Returns:
        Outputs and states as in `Result`.
    """
    inputs, lengths, resets = request.inputs, request.lengths, request.resets
    time, batch = inputs.shape[:2]
    live: Tensor | None = None
    if lengths is not None:
        steps = torch.arange(time, device=inputs.device)[:, None]
        live = steps < lengths.to(inputs.device)
        inputs = torch.where(live[..., None], inputs, 0)  # before anything makes NaN of padding
    like = request.state.h
    fresh = request.cell.initial_state(batch, dtype=like.dtype, device=like.device)
    masks = [mask for mask in (resets, live) if mask is not None]

    def step(
        cell: Cell, fresh: State, state: State, of_step: Sequence[Tensor]
    ) -> tuple[State, Tensor]:
        x, *rest = of_step
        before = state
        streams, of_masks = rest[: len(request.streams)], rest[len(request.streams) :]
        if resets is not None:
            state = map_state(lambda f, s: _where(of_masks[0], f, s), fresh, state)
        output, after = advance(cell, x, state, tuple(streams))
        if live is not None:
            after = map_state(lambda a, b: _where(of_masks[-1], a, b), after, before)
            output = _where(of_masks[-1], output, torch.zeros_like(output))
        return after, output

    grids = [request.cell.project(inputs), *request.streams, *masks]
    loop = _loop if isinstance(time, torch.SymInt) else _written_out
    outputs, state, states = loop(request, step, fresh, grids)
    if request.outputs == "states":
        if live is not None:
            states = map_state(lambda s: _where(live, s, torch.zeros_like(s)), states)
        return Result(outputs, state, states)
    if request.outputs == "all":
        return Result(outputs, state, None)
    if lengths is None:
        return Result(outputs[-1], state, None)
    rows = torch.arange(batch, device=outputs.device)
    return Result(outputs[lengths.to(outputs.device) - 1, rows], state, None)


def _written_out(
    request: Request, step: Step, fresh: State, grids: Sequence[Tensor]
) -> tuple[Tensor, State, State]:
    cell, state = prepare(request.cell), request.state
    outputs: list[Tensor] = []
    states: list[State] = []
    for of_step in zip(*(grid.unbind(0) for grid in grids), strict=True):
        state, output = step(cell, fresh, state, of_step)
        outputs.append(output)
        states.append(state)
    history = None
    if request.outputs == "states":
        history = map_state(lambda *parts: torch.stack(parts), *states)
    return torch.stack(outputs), state, history


def _loop(
    request: Request, step: Step, fresh: State, grids: Sequence[Tensor]
) -> tuple[Tensor, State, State]:
    try:
        from torch._higher_order_ops.scan import scan_op
    except ImportError:
        raise EngineRefusalError(
            "a program of any number of steps",
            got=f"torch {torch.__version__}, which has no operator of a loop",
            fix="Capture it with a fixed number of steps, or update torch.",
        ) from None
    named = dict(request.cell.named_parameters(remove_duplicate=False))
    named |= dict(request.cell.named_buffers(remove_duplicate=False))
    # a tensor of two names is one argument: no two arguments of a body may be aliases
    distinct = list({id(t): t for t in named.values()}.values())
    places = {id(t): place for place, t in enumerate(distinct)}
    tensors, starts = state_tensors(request.state), state_tensors(fresh)
    # torch's scan takes the gradient of all that it carries: counts are carried as real numbers
    carried = [t if t.is_floating_point() else t.to(torch.float64) for t in tensors]

    def as_state(carried: Sequence[Tensor]) -> State:
        pairs = zip(carried, tensors, strict=True)
        return _like(request.state, [c.to(t.dtype) for c, t in pairs])

    counts = (len(carried), len(grids), len(distinct), len(starts))

    def body(*flat: Tensor) -> list[Tensor]:
        # all that it reads is among its arguments: a loop's body is a program of its own
        carry, of_step, own, start = _parts(flat, counts)
        bound = {name: own[places[id(t)]] for name, t in named.items()}
        cell = prepare(bind(request.cell, bound))
        state, output = step(cell, _like(fresh, start), as_state(carry), of_step)
        pairs = zip(state_tensors(state), carry, strict=True)
        after = [s.to(c.dtype) for s, c in pairs]
        kept = after if request.outputs == "states" else []
        # copies: no two results of a body may be one tensor, nor one of its arguments
        return [t.clone() for t in (*after, output, *kept)]

    results = scan_op(body, carried, list(grids), (*distinct, *starts))
    outputs, *history = results[len(carried) :]
    return outputs, as_state(results[: len(carried)]), as_state(history) if history else None


def _parts(flat: Sequence[Any], counts: Sequence[int]) -> list[list[Any]]:
    rest = iter(flat)
    return [[next(rest) for _ in range(count)] for count in counts]


def _like(state: State, tensors: Sequence[Tensor]) -> State:
    """A state of the same structure from its tensors in order."""
    rest = iter(tensors)
    return map_state(lambda _: next(rest), state)


def _where(mask: Tensor, chosen: Tensor, otherwise: Tensor) -> Tensor:
    """Choose by a mask of the first axes."""
    return torch.where(
        mask.reshape(*mask.shape, *(1,) * (chosen.dim() - mask.dim())), chosen, otherwise
    )
