"""Changes of a copy of the model: of initial weights, of the way it is run, of its training."""

import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import Any, Literal, Protocol, TypeAlias, final, runtime_checkable

import torch
from torch import Tensor, nn

from throughtime.cells import LSTMCell
from throughtime.core import initializers
from throughtime.core.cell import Cell, bind, recurrent_weight
from throughtime.core.errors import ConfigurationError, EngineRefusalError
from throughtime.core.initializers import Initializer
from throughtime.core.state import State, map_state, state_tensors
from throughtime.doctor import written_code
from throughtime.doctor.brief_training import USUAL, Training
from throughtime.doctor.padding import lengths_of
from throughtime.doctor.written_code import Code, cells_of
from throughtime.engines import Place, Request, Result, run
from throughtime.results.diagnosis import Cause


@runtime_checkable
class Substitute(Protocol):
    """A way of running a module's cells that differs from the model's own.

    Its `run` is for `run_by`, one block of which computes one loss.
    """

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


Where: TypeAlias = Literal["anywhere", "model", "step", "dropped"]
"""Place of a cut: in the model, in the training step, or a state that is dropped between calls."""


@dataclasses.dataclass(frozen=True)
class Change:
    """One change that may be a remedy.

    Attributes:
        name: name in a few words; {lag} stands for the lag.
        code: function that writes code for a reader to paste.
        causes: causes that it may remedy.
        apply: function of a copy's recurrent module and the lag, which changes the module in place.
        substitute: function from the lag to the substitute that runs the layer in the copy; None
            for the model's own way.
        training: training of the changed copy.
        beside: training of the copy that it is compared with; None for no training at all.
        where: place of the fault for which it is of use.
        fits: function that returns True if the change can be made in a module.
        over_lag: If True, it is made for a lag, which must be known.
    """

    name: str
    code: Code
    causes: tuple[Cause, ...]
    apply: Callable[[nn.Module, int], None] | None = None
    substitute: Callable[[int], Substitute] | None = None
    training: Training = USUAL
    beside: Training | None = USUAL
    where: Where = "anywhere"
    fits: Callable[[nn.Module], bool] = lambda module: True
    over_lag: bool = False


def _named(module: nn.Module, part: str) -> Iterator[nn.Parameter]:
    return (p for name, p in module.named_parameters() if part in name)


def _gated(module: nn.Module) -> bool:
    """Return True if every cell has a gate that keeps its memory."""
    cells = cells_of(module)
    return bool(cells) and all(cell.remember_gates for cell in cells)


def _has_gate_bias(module: nn.Module) -> bool:
    biases = (getattr(cell, "bias_ih", None) for cell in cells_of(module))
    return _gated(module) and all(bias is not None for bias in biases)


def _plain(module: nn.Module) -> bool:
    return not _gated(module)


def _is_lstm(module: nn.Module) -> bool:
    cells = cells_of(module)
    return bool(cells) and all(cell.torch_equivalent == "LSTM" for cell in cells)


def _initialized(module: nn.Module, initializer: Initializer) -> None:
    for cell in cells_of(module):
        initializer(cell)


def _chrono(module: nn.Module, lag: int) -> None:
    _initialized(module, initializers.chrono(max(3, 2 * lag + 1)))


def _zero_shorter_lags(module: nn.Module) -> None:
    """Set the recurrent matrices of all lags but the longest to 0: their gains would add up."""
    for cell in cells_of(module):
        for lag in getattr(cell, "lags", ())[:-1]:
            cell.get_parameter(recurrent_weight(lag)).detach().zero_()


def _orthogonal(module: nn.Module, lag: int) -> None:
    del lag
    for weight in _named(module, "weight_hh"):
        for block in weight.detach().split(weight.shape[1]):
            if block.shape[0] == block.shape[1]:
                dtype = torch.promote_types(block.dtype, torch.float32)  # halves have no QR
                drawn = torch.empty(block.shape, dtype=dtype, device=block.device)
                block.copy_(nn.init.orthogonal_(drawn))
    _zero_shorter_lags(module)
    if _plain(module):
        for bias in _named(module, "bias"):
            bias.detach().zero_()


def _identity(module: nn.Module, lag: int) -> None:
    del lag
    for weight in _named(module, "weight_hh"):
        nn.init.eye_(weight.detach())
    _zero_shorter_lags(module)
    for bias in _named(module, "bias"):
        bias.detach().zero_()


def _afresh(module: nn.Module, lag: int) -> None:
    for name, weight in module.named_parameters():
        if "weight_ih" in name:
            nn.init.uniform_(
                weight.detach(), -1 / math.sqrt(weight.shape[1]), 1 / math.sqrt(weight.shape[1])
            )
        elif "bias" in name:
            weight.detach().zero_()
    _orthogonal(module, lag)
    if _has_gate_bias(module):
        _chrono(module, lag)


def _other_axis_first(module: nn.Module, lag: int) -> None:
    del lag
    vars(module)["batch_first"] = not module.batch_first


def _long_lstm(lag: int) -> OtherCell:
    def make(cell: Cell) -> Cell:
        if cell.output_size != getattr(cell, "hidden_size", cell.output_size):
            raise ConfigurationError("another cell", got="a projection", expected="h as it is")
        lstm = LSTMCell(cell.input_size, cell.output_size)
        with torch.no_grad():
            initializers.chrono(max(3, 2 * lag + 1))(lstm)
        return lstm

    return OtherCell(make)


CHANGES: tuple[Change, ...] = (
    Change(
        "the other order of time and batch",
        written_code.other_axis_first,
        (Cause.TIME_BATCH_SWAPPED,),
        _other_axis_first,
        fits=lambda module: isinstance(getattr(module, "batch_first", None), bool),
    ),
    Change(
        "the answer read at each sequence's last valid step",
        written_code.read_at_the_end,
        (Cause.PADDING_READ,),
        substitute=lambda lag: HeldToTheEnd(lengths_of),
    ),
    Change(
        "a fresh state for every batch",
        written_code.fresh_state,
        (Cause.STATE_LEAK,),
        substitute=lambda lag: Reattached(dropped=False, kept=False),
    ),
    Change(
        "the graph kept between the calls of the layer",
        written_code.graph_kept,
        (Cause.GRADIENT_CUT,),
        substitute=lambda lag: Reattached(dropped=False, kept=True),
        where="model",
    ),
    Change(
        "one backward pass through the whole sequence",
        written_code.whole_sequence,
        (Cause.GRADIENT_CUT,),
        training=Training(own="optimizer"),
        beside=Training(own="step"),
        where="step",
    ),
    Change(
        "the state passed on between the calls of the layer",
        written_code.state_passed_on,
        (Cause.FORGETTING,),
        substitute=lambda lag: Reattached(dropped=True, kept=True),
        where="dropped",
    ),
    Change(
        "gate biases by chrono initialisation",
        written_code.chrono,
        (Cause.FORGETTING, Cause.VANISHING),
        _chrono,
        fits=_has_gate_bias,
        over_lag=True,
    ),
    Change(
        "gate biases that keep: 3",
        written_code.gates_that_keep,
        (Cause.FORGETTING, Cause.VANISHING),
        lambda module, lag: _initialized(module, initializers.forget_bias(3.0)),
        fits=_has_gate_bias,
    ),
    Change(
        "orthogonal recurrent weights",
        written_code.orthogonal,
        (Cause.VANISHING, Cause.EXPLODING, Cause.FORGETTING),
        _orthogonal,
        fits=_plain,
    ),
    Change(
        "identity recurrent weights",
        written_code.identity,
        (Cause.VANISHING, Cause.DEAD_UNITS),
        _identity,
        fits=_plain,
    ),
    Change(
        "an LSTM with chrono initialisation in the layer's place",
        written_code.long_lstm,
        (Cause.VANISHING, Cause.FORGETTING, Cause.EXPLODING, Cause.DEAD_UNITS),
        substitute=_long_lstm,
        fits=lambda module: not _is_lstm(module),
    ),
    Change(
        "a skip connection over {lag} steps",
        written_code.skip,
        (Cause.VANISHING, Cause.FORGETTING),
        substitute=SkipOver,
        over_lag=True,
    ),
    Change(
        "the gradient's norm clipped at 1",
        written_code.clip,
        (Cause.EXPLODING,),
        beside=Training(clip_norm=None),
    ),
    Change(
        "weights drawn afresh",
        written_code.afresh,
        (Cause.SATURATED, Cause.DEAD_UNITS, Cause.EXPLODING),
        _afresh,
    ),
    Change(
        "more updates of the same kind",
        written_code.adam(3e-3),
        (Cause.UNDERTRAINED,),
        beside=None,
    ),
    Change(
        "a larger step",
        written_code.adam(1e-2),
        (Cause.UNDERTRAINED, Cause.INCONCLUSIVE),
        training=Training(learning_rate=1e-2),
    ),
)
