"""The contract of engines: a request, its options, and a runner or a refusal."""

import abc
import contextlib
import contextvars
import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import ClassVar, Literal, NamedTuple, TypeAlias, final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from throughtime.core.capture import capturing
from throughtime.core.cell import Cell, Streams
from throughtime.core.errors import ConfigurationError, EngineRefusalError
from throughtime.core.state import State

Checkpoint = int | Literal["sqrt"] | None


@final
@dataclasses.dataclass(frozen=True)
class EngineOptions:
    """The options of a run beside its results.

    Attributes:
        checkpoint: None to store all values of every step that the backward pass reads; a number k
            to store the state every k steps only and run the segments again in the backward pass,
            which takes memory for T/k states and k steps; "sqrt" for k = ceil(sqrt(T)).
        memory_budget: None, or the bytes that a run of one layer and direction may keep from the
            forward pass to the backward pass, beside its inputs and outputs; the run then repeats
            the fewest steps that this allows.
    """

    checkpoint: Checkpoint = None
    memory_budget: int | None = None

    def __post_init__(self) -> None:
        k, budget = self.checkpoint, self.memory_budget
        if budget is not None:
            if not isinstance(budget, int) or isinstance(budget, bool) or budget < 1:
                raise ConfigurationError(
                    "memory_budget", got=repr(budget), expected="None, or a number of bytes"
                )
            if k is not None:
                raise ConfigurationError(
                    "memory_budget",
                    got=f"{budget:,} bytes beside checkpoint={k!r}",
                    expected="one of the two",
                    fix="Leave checkpoint out: a budget chooses which states to store.",
                )
        if k is None or k == "sqrt":
            return
        if not isinstance(k, int) or isinstance(k, bool) or k < 1:
            raise ConfigurationError(
                "checkpoint", got=repr(k), expected='None, "sqrt", or a number of steps'
            )

    @property
    def stores_all(self) -> bool:
        """True if every step is stored, and none is run again."""
        return self.checkpoint is None and self.memory_budget is None

    def segment(self, time: int) -> int:
        """Return the steps between two stored states of a sequence; 0 for no checkpoints."""
        if self.checkpoint is None:
            return 0
        if self.checkpoint == "sqrt":
            return max(1, math.isqrt(max(0, time - 1)) + 1)
        return self.checkpoint


_PLAIN = EngineOptions()
_current: contextvars.ContextVar[EngineOptions] = contextvars.ContextVar("options", default=_PLAIN)


@contextlib.contextmanager
def engine_options(
    *, checkpoint: Checkpoint = None, memory_budget: int | None = None
) -> Iterator[EngineOptions]:
    """Set the options of all layers that run within the block; a backward pass may come after it.

    Arguments:
        checkpoint, memory_budget: The attributes of `EngineOptions`; at most one of them.

    Raises:
        ConfigurationError: An option is out of range.

    Example:
        >>> with engine_options(checkpoint="sqrt") as options:
        ...     options.segment(10_000)
        100
    """
    options = EngineOptions(checkpoint, memory_budget)
    token = _current.set(options)
    try:
        yield options
    finally:
        _current.reset(token)


Outputs: TypeAlias = Literal["all", "last", "states"]
"""Every step's output, the last valid one, or every step's output and states."""


class Place(NamedTuple):
    """The place of a request among those of a model.

    Attributes:
        call: The number of the layer's call, counted over all layers of the process; 0 for a
            request that no layer made.
        level: The position of the cell in the layer's stack, from 0 at the bottom.
        direction: 0 for forward, 1 for reverse.
    """

    call: int = 0
    level: int = 0
    direction: int = 0


_ALONE = Place()


@dataclasses.dataclass(frozen=True, eq=False)
class Request:
    """One cell to be run over one batch of sequences, all arguments checked.

    Attributes:
        cell: The cell, bound to the parameters of this run.
        inputs: (time, batch, input), time at least 1; steps beyond a length are never read.
        state: The state before the first step.
        lengths: (batch,) int64 on the CPU, or None where all sequences fill the time axis.
        resets: True where a step starts from the cell's initial state, or None.
        streams: (time, batch, ...) for each of the cell's `streams`.
        outputs: "all" steps, the "last" valid one, or all and the "states" after every step.
        options: The options beside the results; by default, those of the enclosing block.
        captured: The transform that captures the call as a program, in words; None for a call on
            values.
        place: The place of the request among those of a model.
    """

    cell: Cell
    inputs: Float[Tensor, "time batch input"]
    state: State
    lengths: Int[Tensor, " batch"] | None = None
    resets: Bool[Tensor, "time batch"] | None = None
    streams: Streams = ()
    outputs: Outputs = "all"
    options: EngineOptions = dataclasses.field(default_factory=_current.get)
    captured: str | None = dataclasses.field(default_factory=capturing)
    place: Place = _ALONE


class Result(NamedTuple):
    """The result of a run.

    Attributes:
        outputs: (time, batch, output), zeros beyond a sequence's length; (batch, output) if only
            the last were requested.
        state: The state after each sequence's last valid step.
        states: (time, batch, ...) for each field, zeros beyond the length, where requested.
    """

    outputs: Tensor
    state: State
    states: State | None


Runner: TypeAlias = Callable[[], Result]
"""A run that is ready to start; it may be started once."""


@final
@dataclasses.dataclass(frozen=True)
class Refusal:
    """The answer of an engine that cannot serve a request.

    Attributes:
        reason: The reason, in words that complete "it cannot: ...".
        fix: The remedy, a whole sentence.
    """

    reason: str
    fix: str = "Use engine='auto' or engine='eager'."

    def __str__(self) -> str:
        return self.reason.rstrip(".")


class Engine(abc.ABC):
    """A way of running a cell over time. Every engine equals the eager one, gradients too.

    Attributes:
        name: The name in `engine="..."` of a layer.
    """

    name: ClassVar[str]

    @abc.abstractmethod
    def prepare(self, request: Request) -> Runner | Refusal:
        """Return a run that is ready to start, or the reason against it.

        The answer depends on the cell, shapes, dtype, device, mode, active transforms and compiler
        alone, never on a timing or on values. Nothing of the request is computed yet.
        """

    @final
    def run(self, request: Request) -> Result:
        """Prepare a request and run it.

        Raises:
            EngineRefusalError: The engine refuses the request.
        """
        runner = self.prepare(request)
        if isinstance(runner, Refusal):
            raise EngineRefusalError(f"engine {self.name!r} cannot: {runner}", fix=runner.fix)
        return runner()


def autocasts(inputs: Tensor) -> bool:
    """Return True if autocast applies to inputs; float64 is left alone."""
    return inputs.dtype != torch.float64 and autocast_on(inputs.device)


def autocast_on(device: torch.device) -> bool:
    """Return True if autocast is on for a device; some devices, as meta, have none."""
    if not torch._C._is_any_autocast_enabled():
        return False
    return torch.amp.is_autocast_available(device.type) and torch.is_autocast_enabled(device.type)
