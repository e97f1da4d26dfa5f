"""States that leave a program of torch.export: with their names here, tuples where it is loaded."""

import functools
from collections.abc import Iterator
from typing import Any

from torch.utils import _pytree

from throughtime.core.state import State


def exported(state: State) -> State:
    """A state as tuples that a saved program may return, nested at will; its fields keep names.

    A program can be loaded where this package is not, so that it cannot hold a NamedTuple of ours.

    Arguments:
        state: of any cell, or a tensor.
    """
    if not isinstance(state, tuple):
        return state
    values, fields = [exported(value) for value in state], getattr(state, "_fields", None)
    return tuple(values) if fields is None else _kind(*fields)(*values)


@functools.cache
def _kind(*fields: str) -> type:
    """A tuple with named fields, of which a saved program has the tuple alone.

    torch takes what has `_make` and `_asdict` for a NamedTuple, and saves its class by name.
    """

    def new(cls: Any, *values: Any) -> Any:
        if len(values) == 1 and (len(fields) > 1 or isinstance(values[0], Iterator)):
            values = tuple(values[0])
        return tuple.__new__(cls, values)

    def reduce(state: Any) -> Any:
        return _rebuilt, (fields, tuple(state))

    def with_keys(state: Any) -> Any:
        keys = [_pytree.GetAttrKey(name) for name in fields]
        return list(zip(keys, state, strict=True)), None

    members: dict[str, Any] = {"__slots__": (), "_fields": fields}
    members |= {"__new__": new, "__reduce__": reduce}
    members |= {name: property(lambda state, i=i: state[i]) for i, name in enumerate(fields)}
    kind = type("State", (tuple,), members)
    _pytree.register_pytree_node(
        kind,
        lambda state: (list(state), None),
        lambda values, _: kind(*values),
        serialized_type_name="builtins.tuple",
        flatten_with_keys_fn=with_keys,
    )
    _pytree.SERIALIZED_TYPE_TO_PYTHON_TYPE["builtins.tuple"] = tuple
    return kind


def _rebuilt(fields: tuple[str, ...], values: tuple[Any, ...]) -> State:
    return _kind(*fields)(*values)
