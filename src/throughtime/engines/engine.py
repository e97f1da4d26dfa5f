"""What an engine is: a way of running a cell over time."""

import abc
import dataclasses
from typing import ClassVar, Literal, NamedTuple, TypeAlias

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch._C import _functorch  # pyright: ignore[reportAttributeAccessIssue, reportMissingImports]

from throughtime.core.capture import capturing
from throughtime.core.cell import Cell, Streams
from throughtime.core.state import State
from throughtime.engines.options import EngineOptions, current_options

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
