"""The state of a cell: a NamedTuple of tensors, batch first; maps of it, and its vector."""

import collections
import functools
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias, final

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from throughtime.core.errors import ConfigurationError

State: TypeAlias = Any
"""A NamedTuple whose fields are (batch, ...) tensors, or tuples of such, nested at will.

Each cell has fields of its own, hence `Any` to a type checker.
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


def zero_state(
    batch_size: int, *, dtype: torch.dtype, device: torch.device, **widths: int
) -> State:
    """Return a state of zeros.

    Example:
        >>> state = zero_state(2, dtype=torch.float32, device=torch.device("cpu"), h=3, c=4)
        >>> state.h.shape, state.c.shape
        (torch.Size([2, 3]), torch.Size([2, 4]))
    """
    fields = (torch.zeros(batch_size, n, dtype=dtype, device=device) for n in widths.values())
    return state_type(*widths)(*fields)


def map_state(function: Callable[..., Any], *states: State) -> State:
    """Apply a function to the matching tensors of one or more states of the same structure.

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


def tensors_by_path(state: State, path: str) -> Iterator[tuple[str, Tensor]]:
    """Name each tensor of a state by the path of positions that leads to it.

    Arguments:
        state: NamedTuples, tuples or tensors, nested at will.
        path: name of the whole.

    Example:
        >>> import torch
        >>> [name for name, _ in tensors_by_path((torch.ones(1), (torch.ones(1),)), "memory")]
        ['memory.0', 'memory.1.0']
    """
    if isinstance(state, Tensor):
        yield path, state
    else:
        for index, part in enumerate(state):
            yield from tensors_by_path(part, f"{path}.{index}")


def restarted(reset: Bool[Tensor, " batch"], fresh: State, state: State) -> State:
    """Replace a state by the initial one in the sequences that start afresh.

    Arguments:
        reset: True for sequences that start afresh.
        fresh: the initial state, of as many sequences or more.
        state: the state after the step before.
    """
    return map_state(
        lambda f, s: torch.where(reset.reshape(-1, *(1,) * (s.dim() - 1)), f[: s.shape[0]], s),
        fresh,
        state,
    )


@final
class Layout:
    """The floating-point tensors of a state, side by side in one vector.

    A field of shape (batch, *shape) takes as many entries as `shape` has, in row-major order; one
    of shape (batch,) takes one. Whole numbers (counts, indices) have no derivative: they are left
    out of the vector, and are passed beside it.

    Arguments:
        state: a state of the cell, of any batch size.

    Attributes:
        size: width of the vector.
        fields: slice of each field that has floating-point tensors.

    Raises:
        ConfigurationError: a field is complex.

    Example:
        >>> import torch
        >>> state = state_type("h", "A", "n")(torch.ones(2, 3), torch.ones(2, 3, 3), torch.ones(2))
        >>> layout = Layout(state)
        >>> layout.size, layout.fields["n"], layout.flatten(state).shape
        (13, slice(12, 13, None), torch.Size([2, 13]))
    """

    def __init__(self, state: State):
        self._like = state
        self._shapes: list[torch.Size] = []
        self.fields: dict[str, slice] = {}
        start = 0
        for name, field in zip(state._fields, state, strict=True):
            tensors = state_tensors(field)
            if any(s.is_complex() for s in tensors):
                raise ConfigurationError(
                    f"field {name} of a state",
                    got="complex numbers",
                    expected="real numbers, which alone have the derivatives that are taken here",
                    fix="Hold real and imaginary part as two fields.",
                )
            shapes = [s.shape[1:] for s in tensors if s.is_floating_point()]
            self._shapes += shapes
            width = sum(shape.numel() for shape in shapes)
            if shapes:
                self.fields[name] = slice(start, start + width)
            start += width
        self.size = start

    def flatten(self, state: State) -> Float[Tensor, "*leading size"]:
        """Return the vector of a state.

        Raises:
            ConfigurationError: the state has another size than the cell's initial one, as that of
                an attention, which holds its source.
        """
        parts = [s for s in state_tensors(state) if s.is_floating_point()]
        rows = [_as_rows(s, len(shape)) for s, shape in zip(parts, self._shapes, strict=True)]
        flat = torch.cat(rows, -1)
        if flat.shape[-1] != self.size:
            raise ConfigurationError(
                "a state",
                got=f"{flat.shape[-1]} numbers",
                expected=f"{self.size}, as the cell's initial state has",
                fix="The state of an attention holds its source: measure the encoder's layer.",
            )
        return flat

    def unflatten(
        self, flat: Float[Tensor, "*leading size"], whole: tuple[Tensor, ...] = ()
    ) -> State:
        """Return the state of a vector.

        Arguments:
            flat: the vector, with any leading axes.
            whole: the state's whole numbers, in order; zeros if there are none.
        """
        widths = [shape.numel() for shape in self._shapes]
        parts = zip(flat.split(widths, -1), self._shapes, strict=True)
        integers, leading = iter(whole), flat.shape[:-1]

        def field(like: Tensor) -> Tensor:
            if like.is_floating_point():
                return _as_field(*next(parts))
            return next(integers) if whole else like.new_zeros(leading + like.shape[1:])

        return map_state(field, self._like)

    def whole(self, state: State) -> tuple[Tensor, ...]:
        """Return the whole numbers of a state, in order."""
        return tuple(s for s in state_tensors(state) if not s.is_floating_point())


def _as_rows(field: Tensor, rank: int) -> Tensor:
    """A field with its last `rank` axes as one."""
    if rank == 1:
        return field
    return field[..., None] if rank == 0 else field.flatten(-rank)


def _as_field(rows: Tensor, shape: torch.Size) -> Tensor:
    """The inverse of `_as_rows`."""
    if len(shape) == 1:
        return rows
    return rows.unflatten(-1, shape) if shape else rows[..., 0]
