"""Another layer in place of the user's: with a skip connection over the lag, or of another cell."""

import dataclasses
from collections.abc import Callable
from typing import Any, final

import torch
from torch import Tensor, nn

from throughtime.core.binding import bind
from throughtime.core.cell import Cell
from throughtime.core.errors import EngineRefusalError
from throughtime.core.state import State, map_state, state_tensors
from throughtime.engines import Engine, Request, Result, run


@final
class SkipOver(Engine):
    """Runs each cell with its own output of `lag` steps before as a further input.

        x'_t = [x_t, h_{t-lag}]    W'_ih = [W_ih, W_skip]    W_skip = 0 before training

    Untrained, the copy is the model as it is; trained, old inputs are one step away.

    Arguments:
        lag: at least 1.

    Attributes:
        weights: W_skip of each cell, made at the first loss.
    """

    name = "skip connection"

    def __init__(self, lag: int):
        self.lag = lag
        self.weights = nn.ParameterList()
        self.cells, self.turn = 1, 0
        self.past: dict[int, Tensor] = {}

    def begin(self, cells: int) -> None:
        """A new loss is about to be computed."""
        self.cells, self.turn, self.past = cells, 0, {}

    def parameters(self) -> list[nn.Parameter]:
        """What is trained beside the model."""
        return list(self.weights)

    def refusal(self, request: Request) -> str | None:
        """Padding has no output `lag` steps before; other cells have no one input matrix."""
        if request.lengths is not None:
            return "sequences of unequal length are packed"
        if getattr(request.cell, "weight_ih", None) is None:
            return f"{type(request.cell).__name__} has no weight_ih"
        return None

    def run(self, request: Request) -> Result:
        """Run in blocks of at most `lag` steps, whose skipped inputs are known."""
        why = self.refusal(request)
        if why is not None:
            raise EngineRefusalError(f"a skip connection cannot be made: {why}")
        position, self.turn = self.turn % self.cells, self.turn + 1
        cell, x = request.cell, request.inputs
        wide = self._widened(position, cell)
        past = self.past.get(position)
        if past is None:
            past = x.new_zeros(self.lag, x.shape[1], cell.output_size)
        parts: list[Tensor] = []
        states: list[State] = []
        state = request.state
        for start in range(0, x.shape[0], self.lag):
            block = slice(start, min(start + self.lag, x.shape[0]))
            result = run(
                dataclasses.replace(
                    request,
                    cell=wide,
                    inputs=torch.cat([x[block], past[: len(x[block])]], -1),
                    state=state,
                    resets=None if request.resets is None else request.resets[block],
                    streams=tuple(stream[block] for stream in request.streams),
                    outputs="states" if request.outputs == "states" else "all",
                ),
                "auto",
            )
            parts.append(result.outputs)
            state = result.state
            if result.states is not None:
                states.append(result.states)
            past = torch.cat([past, result.outputs])[-self.lag :]
        self.past[position] = past
        outputs = torch.cat(parts)
        return Result(
            outputs[-1] if request.outputs == "last" else outputs,
            state,
            map_state(lambda *s: torch.cat(s), *states) if states else None,
        )

    def _widened(self, position: int, cell: Cell) -> Cell:
        own = dict(cell.named_parameters())
        weight = own["weight_ih"]
        while len(self.weights) <= position:
            zeros = torch.zeros(len(weight), cell.output_size)
            self.weights.append(nn.Parameter(zeros.to(weight.device, weight.dtype)))
        wide = bind(cell, {**own, "weight_ih": torch.cat([weight, self.weights[position]], 1)})
        wide.input_size = cell.input_size + cell.output_size
        return wide


@final
class OtherCell(Engine):
    """Runs a cell of another kind, of the same sizes and with weights of its own.

    Arguments:
        make: the other cell from the model's own.

    Attributes:
        others: one for each cell of the layer, made at the first loss.
    """

    name = "other cell"

    def __init__(self, make: Callable[[Cell], Cell]):
        self.make = make
        self.others = nn.ModuleList()
        self.cells, self.turn = 1, 0
        self.ends: dict[int, tuple[State, State]] = {}

    def begin(self, cells: int) -> None:
        """A new loss is about to be computed."""
        self.cells, self.turn, self.ends = cells, 0, {}

    def parameters(self) -> list[nn.Parameter]:
        """What is trained beside the model."""
        return list(self.others.parameters())

    def refusal(self, request: Request) -> None:
        """It refuses nothing."""

    def run(self, request: Request) -> Result:
        """Run the other cell; the model gets its h as the state, and zeros for other memories."""
        position, self.turn = self.turn % self.cells, self.turn + 1
        while len(self.others) <= position:
            made = self.make(request.cell)
            self.others.append(made.to(request.inputs.device, request.inputs.dtype))
        cell: Any = self.others[position].train(request.cell.training)
        x = request.inputs
        state = cell.initial_state(x.shape[1], dtype=x.dtype, device=x.device)
        if position in self.ends and _equal(request.state, self.ends[position][0]):
            state = self.ends[position][1]  # the model passes on what it was given
        result = run(dataclasses.replace(request, cell=cell, state=state, streams=()), "auto")
        shown = map_state(torch.zeros_like, request.state)._replace(h=result.state.h)
        self.ends[position] = shown, result.state
        return Result(result.outputs, shown, None)


def _equal(one: State, other: State) -> bool:
    pairs = zip(state_tensors(one), state_tensors(other), strict=True)
    return all(a.shape == b.shape and torch.equal(a, b) for a, b in pairs)
