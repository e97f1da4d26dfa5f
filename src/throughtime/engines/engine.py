"""What an engine is: a way of running a cell over time."""

import abc
import contextlib
import contextvars
import dataclasses
import math
from collections.abc import Iterator
from typing import ClassVar, Literal, NamedTuple, TypeAlias, final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch._C import _functorch  # pyright: ignore[reportAttributeAccessIssue, reportMissingImports]

from throughtime.core.capture import capturing
from throughtime.core.cell import Cell, Streams
from throughtime.core.errors import ConfigurationError
from throughtime.core.state import State

Checkpoint = int | Literal["sqrt"] | None


@final
@dataclasses.dataclass(frozen=True)
class EngineOptions:
    """What an engine is asked for beside its results.

    Attributes:
        checkpoint: None to store what the backward pass needs of every step; a number k to store
            the state every k steps only and run the segments again in the backward pass, which
            takes memory for T/k states and k steps; "sqrt" for k = ceil(sqrt(T)).
        memory_budget: None, or the bytes that a run of one layer and direction may keep from the
            forward pass to the backward pass, beside its inputs and outputs; then it runs as few
            steps again as it can.
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
        """Whether every step is to be stored, and none is run again."""
        return self.checkpoint is None and self.memory_budget is None

    def segment(self, time: int) -> int:
        """Steps between two stored states in a sequence of this many; 0 for no checkpoints."""
        if self.checkpoint is None:
            return 0
        if self.checkpoint == "sqrt":
            return max(1, math.isqrt(max(0, time - 1)) + 1)
        return self.checkpoint


_PLAIN = EngineOptions()
_current: contextvars.ContextVar[EngineOptions] = contextvars.ContextVar("options", default=_PLAIN)


def current_options() -> EngineOptions:
    """The options that hold here."""
    return _current.get()


@contextlib.contextmanager
def engine_options(
    *, checkpoint: Checkpoint = None, memory_budget: int | None = None
) -> Iterator[EngineOptions]:
    """Options for all layers that run within the block; a backward pass may come after it.

    Arguments:
        checkpoint, memory_budget: as in `EngineOptions`; at most one of them.

    Raises:
        ConfigurationError: an option is out of range.

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


@dataclasses.dataclass(frozen=True, eq=False)
class Request:
    """One cell to be run over one batch of sequences, all arguments checked.

    Attributes:
        cell: bound to the parameters that it shall run with.
        inputs: (time, batch, input), time at least 1; steps beyond a length are never read.
        state: before the first step.
        lengths: (batch,) int64 on the CPU, or None where all sequences fill the time axis.
        resets: True where a step starts from the cell's initial state, or None.
        streams: for each of the cell's `streams`, (time, batch, ...).
        outputs: "all" steps, the "last" valid one, or all and the "states" after every step.
        options: what the engine is asked for beside its results; by default, what holds here.
        captured: what captures the call as a program, in words; None where it runs on values.
    """

    cell: Cell
    inputs: Float[Tensor, "time batch input"]
    state: State
    lengths: Int[Tensor, " batch"] | None = None
    resets: Bool[Tensor, "time batch"] | None = None
    streams: Streams = ()
    outputs: Outputs = "all"
    options: EngineOptions = dataclasses.field(default_factory=current_options)
    captured: str | None = dataclasses.field(default_factory=capturing)


class Result(NamedTuple):
    """What a run yields.

    Attributes:
        outputs: (time, batch, output), zeros beyond a sequence's length; (batch, output) if only
            the last were asked for.
        state: after each sequence's last valid step.
        states: (time, batch, ...) for each field, zeros beyond the length, where asked for.
    """

    outputs: Tensor
    state: State
    states: State | None


class Engine(abc.ABC):
    """A way of running a cell over time. Every engine equals the eager one, gradients too.

    Attributes:
        name: as in `engine="..."` of a layer.
    """

    name: ClassVar[str]

    @abc.abstractmethod
    def refusal(self, request: Request) -> str | None:
        """Why this engine cannot serve a request, in words that complete "it cannot: ...", or None.

        It depends on the cell, shapes, dtype, device, mode, active transforms and compiler alone,
        never on a timing or on values.
        """

    @abc.abstractmethod
    def run(self, request: Request) -> Result:
        """Run a request that it does not refuse."""


def transformed(request: Request) -> str | None:
    """The name of the active transform that a kernel cannot see through, or None."""
    del request
    if _functorch.peek_interpreter_stack() is not None:
        return "a torch.func transform (vmap, grad, jacrev, ...) is active"
    if torch.autograd.forward_ad._current_level >= 0:
        return "forward-mode differentiation is active"
    return None


def autocast_on(device: torch.device) -> bool:
    """Whether autocast is on for a device; there are devices, as meta, that have none."""
    return torch.amp.is_autocast_available(device.type) and torch.is_autocast_enabled(device.type)


def autocasts(request: Request) -> bool:
    """Whether autocast is on for a request; float64 is left alone."""
    inputs = request.inputs
    return inputs.dtype != torch.float64 and autocast_on(inputs.device)
