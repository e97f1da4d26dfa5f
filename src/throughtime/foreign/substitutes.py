"""Substitutes for the way a model runs its recurrent layer: each undoes a fault, or adds a path.

Every substitute's `run` is for `run_by`. One block of `run_by` computes one loss.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Protocol, final, runtime_checkable

import torch
from torch import Tensor, nn

from throughtime.core.binding import bind
from throughtime.core.cell import Cell
from throughtime.core.errors import EngineRefusalError
from throughtime.core.state import State, map_state, state_tensors
from throughtime.engines import Place, Request, Result, run


@runtime_checkable
class Substitute(Protocol):
    """A way of running a module's cells that differs from the model's own."""

    def run(self, request: Request, place: Place) -> Result:
        """Run one cell."""
        ...

    def parameters(self) -> list[nn.Parameter]:
        """Return what is trained beside the model's own parameters; known after a first loss."""
        ...


@final
class Reattached:
    """Runs each call from the end of the call before, with its graph.

    Arguments:
        dropped: If True, also a call that the model starts afresh within a loss goes on.
        kept: If True, the first call of a loss may start from a state that the model kept.
    """

    def __init__(self, *, dropped: bool, kept: bool):
        self.dropped, self.kept = dropped, kept
        self.ends: dict[tuple[int, ...], State] = {}

    def parameters(self) -> list[nn.Parameter]:
        """Return no parameters."""
        return []

    def run(self, request: Request, place: Place) -> Result:
        """Run with the first engine that serves."""
        state, cell = request.state, place[1:]
        if place.call > 0:
            end = self.ends[cell]
            if _same_shapes(state, end) and (self.dropped or _equal(state, end)):
                state = end
        elif not self.kept:
            state = _initial(request.cell, request.inputs)
        with torch.enable_grad():
            result = run(dataclasses.replace(request, state=state), "auto")
        self.ends[cell] = result.state
        return result


@final
class HeldToTheEnd:
    """Runs sequences to their true ends and repeats the last output over the padding.

    Arguments:
        lengths_of: function from the layer's inputs (time, batch, input) to the true lengths.
    """

    def __init__(self, lengths_of: Callable[[Tensor], Tensor]):
        self.lengths_of = lengths_of

    def parameters(self) -> list[nn.Parameter]:
        """Return no parameters."""
        return []

    def run(self, request: Request, place: Place) -> Result:
        """Run with lengths; outputs beyond them are those at the last valid step."""
        del place
        lengths = self.lengths_of(request.inputs)
        result = run(dataclasses.replace(request, lengths=lengths), "auto")
        steps = torch.arange(request.inputs.shape[0])[:, None]
        index = torch.minimum(steps, lengths[None] - 1).to(result.outputs.device)
        width = result.outputs.shape[-1]
        outputs = result.outputs.gather(0, index[..., None].expand(-1, -1, width))
        return result._replace(outputs=outputs)


@final
class SkipOver:
    """Runs each cell with its own output of `lag` steps before as a further input.

        x'_t = [x_t, h_{t-lag}]    W'_ih = [W_ih, W_skip]    W_skip = 0 before training

    Untrained, the copy computes the same as the model; trained, old inputs are one step away.

    Arguments:
        lag: number of steps, at least 1.

    Attributes:
        weights: W_skip of each cell by (level, direction), made at the first loss.
    """

    def __init__(self, lag: int):
        self.lag = lag
        self.weights: dict[tuple[int, ...], nn.Parameter] = {}
        self.past: dict[tuple[int, ...], Tensor] = {}

    def parameters(self) -> list[nn.Parameter]:
        """Return W_skip of all cells."""
        return list(self.weights.values())

    def run(self, request: Request, place: Place) -> Result:
        """Run in blocks of at most `lag` steps, whose skipped inputs are known.

        Raises:
            EngineRefusalError: the sequences are packed, or the cell has no one input matrix.
        """
        cell, x, key = request.cell, request.inputs, place[1:]
        if request.lengths is not None:
            raise EngineRefusalError(
                "a skip connection cannot be made: sequences of unequal length are packed"
            )
        if getattr(cell, "weight_ih", None) is None:
            raise EngineRefusalError(
                f"a skip connection cannot be made: {type(cell).__name__} has no weight_ih"
            )
        wide = self._widened(key, cell)
        if place.call == 0:
            self.past[key] = x.new_zeros(self.lag, x.shape[1], cell.output_size)
        past = self.past[key]
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
        self.past[key] = past
        outputs = torch.cat(parts)
        return Result(
            outputs[-1] if request.outputs == "last" else outputs,
            state,
            map_state(lambda *s: torch.cat(s), *states) if states else None,
        )

    def _widened(self, key: tuple[int, ...], cell: Cell) -> Cell:
        own = dict(cell.named_parameters())
        weight = own["weight_ih"]
        if key not in self.weights:
            zeros = torch.zeros(len(weight), cell.output_size)
            self.weights[key] = nn.Parameter(zeros.to(weight.device, weight.dtype))
        wide = bind(cell, {**own, "weight_ih": torch.cat([weight, self.weights[key]], 1)})
        wide.input_size = cell.input_size + cell.output_size
        return wide


@final
class OtherCell:
    """Runs a cell of another kind, of the same sizes and with weights of its own.

    Arguments:
        make: function from the model's own cell to the other cell.

    Attributes:
        others: other cells by (level, direction), made at the first loss.
    """

    def __init__(self, make: Callable[[Cell], Cell]):
        self.make = make
        self.others: dict[tuple[int, ...], Cell] = {}
        self.ends: dict[tuple[int, ...], tuple[State, State]] = {}

    def parameters(self) -> list[nn.Parameter]:
        """Return the parameters of all other cells."""
        return [p for cell in self.others.values() for p in cell.parameters()]

    def run(self, request: Request, place: Place) -> Result:
        """Run the other cell; the model gets its h as the state, and zeros for other memories."""
        key, x = place[1:], request.inputs
        if key not in self.others:
            self.others[key] = self.make(request.cell).to(x.device, x.dtype)
        cell: Any = self.others[key].train(request.cell.training)
        state = _initial(cell, x)
        if place.call > 0 and _equal(request.state, self.ends[key][0]):
            state = self.ends[key][1]  # the model passes on the state that it was given
        result = run(dataclasses.replace(request, cell=cell, state=state, streams=()), "auto")
        shown = map_state(torch.zeros_like, request.state)._replace(h=result.state.h)
        self.ends[key] = shown, result.state
        return Result(result.outputs, shown, None)


def _initial(cell: Cell, inputs: Tensor) -> State:
    return cell.initial_state(inputs.shape[1], dtype=inputs.dtype, device=inputs.device)


def _same_shapes(one: State, other: State) -> bool:
    pairs = zip(state_tensors(one), state_tensors(other), strict=True)
    return all(a.shape == b.shape for a, b in pairs)


def _equal(one: State, other: State) -> bool:
    pairs = zip(state_tensors(one), state_tensors(other), strict=True)
    return all(a.shape == b.shape and torch.equal(a, b) for a, b in pairs)
