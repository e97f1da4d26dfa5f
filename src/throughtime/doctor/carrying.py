"""Ways of running the user's layer that undo a fault from outside."""

import dataclasses
from typing import Any, final

import torch
from torch import Tensor

from throughtime.core.state import State, map_state, state_tensors
from throughtime.engines import Engine, Request, Result, run


@final
class Reattached(Engine):
    """Runs each call from the end of the one before, with its graph: nothing is cut or dropped.

    Arguments:
        dropped: whether calls that would start afresh within one loss go on too.
        kept: whether the first call of a loss may start from a state that the model kept.
    """

    name = "reattached"

    def __init__(self, *, dropped: bool, kept: bool):
        self.dropped, self.kept = dropped, kept
        self.cells = 1
        self.ends: list[State] = []
        self.turn = 0

    def begin(self, cells: int) -> None:
        """A new loss is about to be computed."""
        self.cells, self.turn, self.ends = cells, 0, []

    def refusal(self, request: Request) -> None:
        """It refuses nothing."""

    def run(self, request: Request) -> Result:
        """Run by whichever engine serves."""
        position, self.turn = self.turn % self.cells, self.turn + 1
        state = request.state
        if len(self.ends) > position:
            end = self.ends[position]
            if _same_shape(state, end) and (self.dropped or _equal(state, end)):
                state = end
        elif not self.kept:
            batch = request.inputs.shape[1]
            state = request.cell.initial_state(
                batch, dtype=request.inputs.dtype, device=request.inputs.device
            )
        with torch.enable_grad():
            result = run(dataclasses.replace(request, state=state), "auto")
        self.ends[position : position + 1] = [result.state]
        return result


def _same_shape(state: State, end: State) -> bool:
    pairs = zip(state_tensors(state), state_tensors(end), strict=True)
    return all(a.shape == b.shape for a, b in pairs)


def _equal(state: State, end: State) -> bool:
    pairs = zip(state_tensors(state), state_tensors(end), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


@final
class HeldToTheEnd(Engine):
    """Runs sequences to their true ends and holds the last output over the padding.

    Arguments:
        lengths_of: the true lengths, from the layer's inputs (time, batch, input).
    """

    name = "held to the end"

    def __init__(self, lengths_of: Any):
        self.lengths_of = lengths_of

    def begin(self, cells: int) -> None:
        """Nothing is kept between losses."""

    def refusal(self, request: Request) -> None:
        """It refuses nothing."""

    def run(self, request: Request) -> Result:
        """Run with lengths; outputs beyond them are those at the last valid step."""
        lengths: Tensor = self.lengths_of(request.inputs)
        result = run(dataclasses.replace(request, lengths=lengths), "auto")
        steps = torch.arange(request.inputs.shape[0])[:, None]
        index = torch.minimum(steps, lengths[None] - 1).to(result.outputs.device)
        outputs = result.outputs.gather(
            0, index[..., None].expand(-1, -1, result.outputs.shape[-1])
        )
        return Result(outputs, map_state(lambda s: s, result.state), result.states)
