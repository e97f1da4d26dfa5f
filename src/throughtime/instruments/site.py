"""What a recurrent module of a model is to instruments: a site, which an engine of ours can run."""

import abc
from collections.abc import Callable
from typing import Any

from torch import Tensor

from throughtime.core.state import map_state
from throughtime.engines import Engine


class Site(abc.ABC):
    """A module of a model in which time passes, as an engine of ours can run it.

    Attributes:
        levels: cells on top of each other.
        directions: 1, or 2 of a bidirectional layer.
    """

    levels: int = 1
    directions: int = 1

    @abc.abstractmethod
    def call(self, engine: Engine, *arguments: Any, **options: Any) -> Any:
        """What the module's forward would return, run by this engine; every cell is a request.

        A layer makes a request of all steps for each level and direction, levels in order; a cell
        that the model itself steps through time makes a request of one step.
        """


def each(function: Callable[[Tensor], Tensor], state: Any) -> Any:
    """A function of every tensor of a module's own state: one, or a tuple or list of them."""
    if isinstance(state, list):
        return [function(s) for s in state]
    return map_state(function, state)


def with_rows(state: Any, batched: bool) -> Any:
    """A state for one sequence, as one for a batch."""
    return state if batched else each(lambda s: s[None], state)


def without_rows(state: Any, batched: bool) -> Any:
    """The other way about."""
    return state if batched else each(lambda s: s[0], state)
