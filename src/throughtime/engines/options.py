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
            the state every k steps only and run each segment again in the backward pass, which
            takes memory for T/k states and k steps; "sqrt" for k = ceil(sqrt(T)).
    """

    checkpoint: Checkpoint = None

    def __post_init__(self) -> None:
        k = self.checkpoint
        if k is None or k == "sqrt":
            return
        if not isinstance(k, int) or isinstance(k, bool) or k < 1:
            raise ConfigurationError(
                "checkpoint", got=repr(k), expected='None, "sqrt", or a number of steps'
            )

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
def engine_options(*, checkpoint: Checkpoint = None) -> Iterator[EngineOptions]:
    """Options for all layers that run within the block; a backward pass may come after it.

    Arguments:
        checkpoint: as in `EngineOptions`.

    Raises:
        ConfigurationError: an option is out of range.

    Example:
        >>> with engine_options(checkpoint="sqrt") as options:
        ...     options.segment(10_000)
        100
    """
    options = EngineOptions(checkpoint)
    token = _current.set(options)
    try:
        yield options
    finally:
        _current.reset(token)
