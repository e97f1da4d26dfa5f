"""Recordings: the inputs, states and outputs of one cell of a model, step by step."""

import dataclasses
import itertools
from collections.abc import Callable, Mapping
from typing import Any, NoReturn, final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from throughtime.core.cell import Cell, Streams, bind
from throughtime.core.errors import ConfigurationError
from throughtime.core.state import State, map_state, state_type
from throughtime.engines import Request, unroll
from throughtime.foreign.unchanged import unchanged
from throughtime.foreign.watching import Link, watch
from throughtime.results.fields import CONVERSION, Conversion, of_type
from throughtime.results.record import Record


@final
class UnsavedCell(Cell):
    """The cell of a recording that was read from a file: a module is not saved, only its class.

    Arguments:
        name: class of the cell that was recorded.
    """

    def __init__(self, name: str):
        super().__init__()
        self.name = name

    def named_parameters(self, *arguments: Any, **options: Any) -> NoReturn:
        """Refuse: instruments read the parameters first."""
        self._refuse()

    def initial_state(
        self, batch_size: int, *, dtype: torch.dtype, device: torch.device
    ) -> NoReturn:
        """Refuse."""
        self._refuse()

    def project(self, x: Float[Tensor, "*steps input"]) -> NoReturn:
        """Refuse."""
        self._refuse()

    def step(self, projected: Float[Tensor, "batch projected"], state: State) -> NoReturn:
        """Refuse."""
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise ConfigurationError(
            "cell of the recording",
            got=f"none: the recording was read from a file, which does not hold the {self.name}",
            expected="a recording of a model",
            fix="Record the model again: record(model, loss).",
        )


def _class_of(cell: Cell) -> str:
    return cell.name if isinstance(cell, UnsavedCell) else type(cell).__name__


def _read_cell(value: Any, where: str) -> UnsavedCell:
    return UnsavedCell(of_type(str, value, where))


def _read_state(value: Any, where: str) -> State:
    """Return the state of a JSON value: an object of fields, a list, or a tensor."""
    if isinstance(value, list):
        return tuple(_read_state(part, f"{where}[{k}]") for k, part in enumerate(value))
    if not isinstance(value, Mapping) or "dtype" in value:
        return of_type(Tensor, value, where)
    if not value or not all(name.isidentifier() for name in value):
        raise TypeError(f"{where} has no names of fields")
    return state_type(*value)(*(_read_state(v, f"{where}.{name}") for name, v in value.items()))


def _read_starts(value: Any, where: str) -> dict[int, State]:
    by_time: dict[str, Any] = of_type(dict[str, Any], value, where)
    if not all(time.isdecimal() for time in by_time):
        raise TypeError(f"{where} has keys that are no steps")
    return {int(time): _read_state(state, f"{where}.{time}") for time, state in by_time.items()}


def _unchanged(value: Any) -> Any:
    return value


_CELL = {CONVERSION: Conversion(_class_of, _read_cell)}
_STATE = {CONVERSION: Conversion(_unchanged, _read_state)}
_STARTS = {CONVERSION: Conversion(_unchanged, _read_starts)}


@dataclasses.dataclass(frozen=True, eq=False)
class Recording(Record):
    """One cell over one batch. All tensors are detached, in the cell's own order of time.

    A file of a recording holds all but the cell. What is read from it has the states and outputs;
    instruments that step the cell refuse it.

    Attributes:
        layer: name of the recurrent layer within the model.
        level: index of the cell in its stack, from the bottom.
        direction: 0 forward, 1 reverse.
        cell: the cell on detached tensors.
        inputs: x_t.
        initial: state before the first step.
        states: state after every step, each field (time, batch, ...).
        outputs: h_t, in the form that the layer passes on.
        lengths: valid steps of each sequence, None where all fill the time axis.
        resets: True where a step starts from the cell's initial state; None if none does.
        streams: streams of the cell, for each step.
        calls: steps of each call of the layer. There are several where the model runs the layer in
            chunks or step by step.
        links: link of each call's state to the call before.
        starts: states that differ from the end of the call before but are made from it, by the time
            of the first step of their call.
    """

    layer: str
    level: int
    direction: int
    cell: Cell = dataclasses.field(metadata=_CELL)
    inputs: Float[Tensor, "time batch input"]
    initial: State = dataclasses.field(metadata=_STATE)
    states: State = dataclasses.field(metadata=_STATE)
    outputs: Float[Tensor, "time batch output"]
    lengths: Int[Tensor, " batch"] | None
    resets: Bool[Tensor, "time batch"] | None
    streams: Streams
    calls: tuple[int, ...]
    links: tuple[Link, ...]
    starts: dict[int, State] = dataclasses.field(metadata=_STARTS)

    @property
    def time(self) -> int:
        """Number of steps."""
        return self.inputs.shape[0]

    @property
    def batch(self) -> int:
        """Number of sequences."""
        return self.inputs.shape[1]

    def valid_lengths(self) -> Int[Tensor, " batch"]:
        """Return the number of steps of each sequence, on the CPU."""
        full = torch.full((self.batch,), self.time, dtype=torch.int64, device="cpu")
        return full if self.lengths is None else self.lengths.cpu()

    def before(self, t: int) -> State:
        """Return the state that step t starts from, resets apart: (batch, ...) a field."""
        if t in self.starts:
            return self.starts[t]
        return self.initial if t == 0 else map_state(lambda s: s[t - 1], self.states)

    def streams_at(self, t: int) -> Streams:
        """Return the entry of each stream for step t."""
        return tuple(stream[t] for stream in self.streams)

    def to(self, dtype: torch.dtype) -> "Recording":
        """Return the same run in another precision: the cell steps through the inputs once more.

        Arguments:
            dtype: float32 or float64.

        Raises:
            ConfigurationError: the model changes the state between calls of the layer.
        """
        if self.starts:
            raise ConfigurationError(
                "Recording.to",
                got="a state that the model changes between calls of the layer",
                expected="calls that start from where the one before ended",
                fix="Record the model in this precision: model.double().",
            )
        cell = cast_cell(self.cell, dtype)

        def cast(s: Tensor) -> Tensor:
            return s.to(dtype) if s.is_floating_point() else s

        streams = tuple(map(cast, self.streams))
        inputs, initial = cast(self.inputs), map_state(cast, self.initial)
        with torch.no_grad():
            result = unroll(
                Request(cell, inputs, initial, self.lengths, self.resets, streams, "states")
            )
        return dataclasses.replace(
            self,
            cell=cell,
            inputs=inputs,
            initial=initial,
            streams=streams,
            states=result.states,
            outputs=result.outputs,
        )


def cast_cell(cell: Cell, dtype: torch.dtype) -> Cell:
    """Return a cell of the same class on tensors of another precision, detached."""
    named = (*cell.named_parameters(), *cell.named_buffers())
    return bind(
        cell,
        {n: t.detach().to(dtype) if t.is_floating_point() else t.detach() for n, t in named},
    )


def record(
    model: nn.Module,
    loss: Callable[[], Any],
    *,
    layer: str | None = None,
    level: int = -1,
    direction: int = 0,
) -> Recording:
    """Run a model once, and keep the inputs, states and outputs of one of its recurrent cells.

    Where the model calls the layer several times (chunks of a long sequence, or a cell that it
    steps by itself), the calls follow each other in time. Where a call starts from the cell's
    initial state, `resets` is True, and at the padding of several calls with lengths. Where the
    model makes the call's state from the end of the call before (a mask, dropout), `starts` holds
    it.

    Arguments:
        model: any module that holds a recurrent layer or cell. It is unchanged afterwards.
        loss: function that runs the model on a batch and returns a scalar.
        layer: the recurrent layer's name within the model, needed if there are several.
        level: index of the cell in its stack, from the bottom; the top one by default.
        direction: 0 forward, 1 the reverse cell of a bidirectional layer.

    Returns:
        The recording.

    Raises:
        ConfigurationError: as `gradient_flow`, or the calls are of unlike batches.
        UnknownNameError: no recurrent layer of that name.

    Example:
        >>> model = nn.GRU(1, 8)
        >>> recording = record(model, lambda: model(torch.ones(20, 2, 1))[0].sum())
        >>> recording.inputs.shape, recording.states.h.shape
        (torch.Size([20, 2, 1]), torch.Size([20, 2, 8]))
    """
    with unchanged(model):
        watched = watch(model, loss, layer=layer, level=level, direction=direction, gradients=False)
    requests = [call.request for call in watched.calls]
    if len({request.inputs.shape[1] for request in requests}) > 1:
        raise ConfigurationError(
            "loss",
            got="calls of the recurrent layer with other numbers of sequences",
            expected="the same sequences in every call",
        )
    first = requests[0]
    fresh = [call.link == "fresh" for call in watched.calls]
    padded = any(request.lengths is not None for request in requests)
    if padded and not all(fresh):
        raise ConfigurationError(
            "loss",
            got="calls of the layer with lengths, of which one goes on from the state of another",
            expected="one call, or calls that start from the initial state each",
        )
    resets = _resets(requests, fresh)
    times = itertools.accumulate((call.steps for call in watched.calls), initial=0)
    starts = {
        t: map_state(lambda s: s.detach(), call.request.state)
        for t, call in zip(times, watched.calls, strict=False)
        if call.link == "changed"
    }

    def join(*parts: Tensor) -> Tensor:
        return torch.cat(parts).detach()

    return Recording(
        layer=watched.layer,
        level=watched.level,
        direction=direction,
        cell=bind(
            first.cell,
            {
                n: t.detach()
                for n, t in (*first.cell.named_parameters(), *first.cell.named_buffers())
            },
        ),
        inputs=join(*(request.inputs for request in requests)),
        initial=map_state(lambda s: s.detach(), first.state),
        states=map_state(join, *(call.result.states for call in watched.calls)),
        outputs=join(*(call.result.outputs for call in watched.calls)),
        lengths=first.lengths if len(requests) == 1 else None,
        resets=resets,
        streams=tuple(join(*parts) for parts in zip(*(r.streams for r in requests), strict=True)),
        calls=tuple(call.steps for call in watched.calls),
        links=tuple(call.link for call in watched.calls),
        starts=starts,
    )


def _resets(requests: list[Request], fresh: list[bool]) -> Tensor | None:
    """Join the resets of all calls, with one where a later call starts afresh or has padding."""
    if not any(fresh[1:]) and all(request.resets is None for request in requests):
        return None
    parts: list[Tensor] = []
    for k, request in enumerate(requests):
        time, batch = request.inputs.shape[:2]
        resets = (
            torch.zeros(time, batch, dtype=torch.bool, device=request.inputs.device)
            if request.resets is None
            else request.resets.clone()
        )
        if k > 0 and fresh[k]:
            resets[0] = True
        if len(requests) > 1 and request.lengths is not None:
            steps = torch.arange(time, device=resets.device)[:, None]
            resets |= steps >= request.lengths.to(resets.device)
        parts.append(resets)
    return torch.cat(parts)
