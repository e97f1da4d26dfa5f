"""The state of a cell: a NamedTuple of tensors, batch first, and how to map over it."""

import collections
import functools
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import torch
from torch import Tensor

State: TypeAlias = Any
"""A NamedTuple whose fields are (batch, ...) tensors, or tuples of such, nested at will.

A cell's own fields are known to the cell alone, hence `Any` to a type checker.
"""


@functools.cache
def state_type(*fields: str) -> type:
    """The NamedTuple class with these fields: one class for each list of fields, picklable.

    An instance is also made of one iterable of all fields, as a tuple is: code that is written for
    torch's (h, c) rebuilds a state by `type(state)(f(field) for field in state)`.

    Arguments:
        fields: names in order, as ("h", "c").

    Returns:
        A class whose instances can be pickled, copied and mapped over.

    Example:
        >>> state = state_type("h", "c")(h=1, c=2)
        >>> state
        State(h=1, c=2)
        >>> type(state)(10 * field for field in state)
        State(h=10, c=20)
    """
    kind = collections.namedtuple("State", fields)  # pyright: ignore[reportUntypedNamedTuple]
    of_fields = kind.__new__

    def new(cls: type, *values: Any, **named: Any) -> Any:
        if len(values) == 1 and not named and (len(fields) > 1 or isinstance(values[0], Iterator)):
            values = tuple(values[0])
        return of_fields(cls, *values, **named)

    setattr(kind, "__new__", new)  # noqa: B010
    # pickle looks classes up by module and name, which a class made at run time does not have.
    setattr(kind, "__reduce__", lambda state: (_rebuild, (fields, tuple(state))))  # noqa: B010
    return kind


def _rebuild(fields: tuple[str, ...], values: tuple[Any, ...]) -> State:
    return state_type(*fields)(*values)


# torch.load of a saved state, which takes no code but what is declared harmless
torch.serialization.add_safe_globals([_rebuild])


def map_state(function: Callable[..., Any], *states: State) -> State:
    """Apply a function to the matching tensors of one or more states of the same structure.

    Arguments:
        function: takes one tensor from each state.
        states: NamedTuples, tuples or tensors, alike in structure.

    Returns:
        The results in the structure of the first state.

    Example:
        >>> import torch
        >>> map_state(lambda a: a + 1, state_type("h")(torch.ones(2)))
        State(h=tensor([2., 2.]))
    """
    first = states[0]
    if not isinstance(first, tuple):
        return function(*states)
    values = [map_state(function, *fields) for fields in zip(*states, strict=True)]
    return type(first)(*values) if hasattr(first, "_fields") else tuple(values)


def state_tensors(state: State) -> list[Tensor]:
    """All tensors of a state, in order of their fields."""
    if not isinstance(state, tuple):
        return [state]
    return [tensor for field in state for tensor in state_tensors(field)]
