"""How an engine shall run: what a user sets for a block of code rather than for a layer."""

import contextlib
import contextvars
import dataclasses
import math
from collections.abc import Iterator
from typing import Literal, final

from throughtime.core.errors import ConfigurationError

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
