"""Running the cells of a layer: one over the other, forwards and backwards."""

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from throughtime.core.cell import Cell, fit_streams
from throughtime.core.sequence import reverse_resets, reverse_time, steps_since_reset
from throughtime.core.state import State, map_state
from throughtime.engines import Outputs, Request, Result, run
from throughtime.layers.arguments import Arguments

if TYPE_CHECKING:
    from throughtime.layers.layer import RecurrentLayer


def run_cells(
    layer: "RecurrentLayer", cells: tuple[Cell, ...], arguments: Arguments, outputs: Outputs
) -> Result:
    """Run all cells of a layer.

    Arguments:
        layer: whose options hold.
        cells: bound to their tensors, level by level, forward before reverse.
        arguments: of the call.
        outputs: "all", or "states" for the states after every step too.

    Returns:
        The outputs of the top level, (time, batch, output); states of (layers * directions, batch,
        ...), and after every step (time, layers * directions, batch, ...).
    """
    x, lengths = arguments.inputs, arguments.lengths
    before = iter(_unstack(arguments.state, len(cells)))
    remaining = iter(cells)
    ends: list[State] = []
    histories: list[State] = []
    for level in range(layer.num_layers):
        sides: list[Tensor] = []
        for direction in range(layer.num_directions):
            inputs = reverse_time(x, lengths) if direction else x
            cell, state = next(remaining), next(before)
            request = request_for(layer, cell, inputs, state, arguments, outputs, direction)
            side, end, history = run(request, layer.engine)
            if direction:
                side = reverse_time(side, lengths)
                history = history and map_state(lambda s: reverse_time(s, lengths), history)
            sides.append(side)
            ends.append(end)
            if history is not None:
                histories.append(history)
        x = sides[0] if len(sides) == 1 else torch.cat(sides, -1)
        if layer.dropout > 0 and level < layer.num_layers - 1:
            x = F.dropout(x, layer.dropout, layer.training)
    states = map_state(lambda *s: torch.stack(s, 1), *histories) if histories else None
    return Result(x, map_state(lambda *s: torch.stack(s), *ends), states)


def request_for(
    layer: "RecurrentLayer",
    cell: Cell,
    inputs: Tensor,
    state: State,
    arguments: Arguments,
    outputs: Outputs,
    direction: int,
    generator: torch.Generator = torch.default_generator,
) -> Request:
    """What an engine is asked for one cell of a layer; the cell's streams are drawn here.

    Arguments:
        layer: whose mode holds.
        cell: bound to its tensors.
        inputs: (time, batch, input) in the cell's own order of time.
        state: of this cell, (batch, ...) a field.
        arguments: of the call.
        outputs: what is asked for.
        direction: 0 forward, 1 reverse.
        generator: the source of the streams that are random.
    """
    resets, lengths = arguments.resets, arguments.lengths
    if direction == 1 and resets is not None:
        resets = reverse_resets(resets, lengths)
    streams = ()
    if cell.streams:
        drawn = cell.draw_streams(
            steps_since_reset(state.steps, resets, inputs.shape[0]),
            training=layer.training,
            dtype=state.h.dtype,
            generator=generator,
        )
        drawn = fit_streams(cell, drawn, *inputs.shape[:2])
        streams = tuple(stream.to(state.h.device) for stream in drawn)
    return Request(cell, inputs, state, lengths, resets, streams, outputs)


def _unstack(state: State, count: int) -> list[State]:
    """The states of single cells from that of all, whose fields are stacked."""
    if not isinstance(state, tuple):
        return list(state.unbind(0))
    fields = [_unstack(field, count) for field in state]
    if not hasattr(state, "_fields"):
        return [tuple(field[i] for field in fields) for i in range(count)]
    return [type(state)(*(field[i] for field in fields)) for i in range(count)]
