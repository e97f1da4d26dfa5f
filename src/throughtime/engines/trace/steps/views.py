"""Views of symbolic tensors: each number of a tensor as a place in a recorded vector.

A symbolic tensor is an array of places with the tensor's shape, but for the axis of the batch,
which has length 1: all sequences are alike. A place is a vector's number and an offset in it.
Views, concatenations and splits move places; nothing is computed.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any, final

import numpy as np

from throughtime.engines.trace.program import UntraceableError

VECTOR = 1 << 32
"""A place is vector * VECTOR + offset."""


@final
@dataclasses.dataclass(frozen=True, eq=False)
class Symbol:
    """A tensor whose numbers are places.

    Attributes:
        places: int64, in the tensor's shape, with length 1 along the batch.
        axis: The axis of the batch; None for a tensor without one.
    """

    places: np.ndarray
    axis: int | None

    def shape(self, batch: int) -> tuple[int, ...]:
        """Return the shape of the tensor."""
        shape = list(self.places.shape)
        if self.axis is not None:
            shape[self.axis] = batch
        return tuple(shape)


def whole(vector: int, width: int, shape: Sequence[int], axis: int | None) -> Symbol:
    """Return the symbol of a tensor that holds all of a vector in order."""
    places = vector * VECTOR + np.arange(width, dtype=np.int64)
    return Symbol(places.reshape(shape), axis)


def broadcast(symbols: Sequence[Symbol]) -> tuple[list[np.ndarray], tuple[int, ...], int | None]:
    """Return the places of symbols under broadcasting, their common shape, and the batch's axis."""
    shape = np.broadcast_shapes(*(s.places.shape for s in symbols))
    axes = {s.axis + len(shape) - s.places.ndim for s in symbols if s.axis is not None}
    if len(axes) > 1:
        raise UntraceableError("step combines sequences with each other")
    axis = next(iter(axes), None)
    if axis is not None and shape[axis] != 1:
        raise UntraceableError("step combines an axis of units with that of sequences")
    return [np.broadcast_to(s.places, shape) for s in symbols], shape, axis


def _dim(symbol: Symbol, dim: int) -> int:
    """Return an axis that is not that of the batch, from 0."""
    found = dim % max(1, symbol.places.ndim)
    if found == symbol.axis:
        raise UntraceableError("step takes sequences apart, or sets them beside each other")
    return found


def _permute(symbol: Symbol, dims: Sequence[int]) -> Symbol:
    order = [d % symbol.places.ndim for d in dims]
    axis = None if symbol.axis is None else order.index(symbol.axis)
    return Symbol(symbol.places.transpose(order), axis)


def _transpose(symbol: Symbol, first: int = 0, second: int = 1) -> Symbol:
    if symbol.places.ndim < 2:
        return symbol
    order = list(range(symbol.places.ndim))
    first, second = first % len(order), second % len(order)
    order[first], order[second] = order[second], order[first]
    return _permute(symbol, order)


def _view(symbol: Symbol, batch: int, shape: Sequence[int]) -> Symbol:
    old = symbol.shape(batch)
    size = list(shape)
    if -1 in size:
        size[size.index(-1)] = math.prod(old) // -math.prod(size)
    if symbol.axis is None:
        return Symbol(symbol.places.reshape(size), None)
    before = math.prod(old[: symbol.axis])
    for axis, length in enumerate(size):
        if length == batch and math.prod(size[:axis]) == before:
            target = [1 if i == axis else n for i, n in enumerate(size)]
            return Symbol(symbol.places.reshape(target), axis)
    raise UntraceableError("step merges the axis of sequences with another")


def _expand(symbol: Symbol, batch: int, shape: Sequence[int]) -> Symbol:
    size, own = list(shape), symbol.places.shape
    more = len(size) - len(own)
    axis = None if symbol.axis is None else symbol.axis + more
    for i in range(more, len(size)):
        size[i] = own[i - more] if size[i] == -1 or i == axis else size[i]
    if axis is None and batch in size:
        axis = size.index(batch)
        size[axis] = 1
    return Symbol(np.broadcast_to(symbol.places, size), axis)


def _select(symbol: Symbol, dim: int, index: int) -> Symbol:
    dim = _dim(symbol, dim)
    axis = symbol.axis
    axis = axis - 1 if axis is not None and axis > dim else axis
    return Symbol(symbol.places.take(index, dim), axis)


def _slice(
    symbol: Symbol,
    dim: int = 0,
    start: int | None = None,
    end: int | None = None,
    step: int = 1,
) -> Symbol:
    dim = dim % symbol.places.ndim
    if dim == symbol.axis:
        if (start or 0) == 0 and (end is None or end >= 2**31) and step == 1:
            return symbol
        raise UntraceableError("step takes sequences apart")
    index: list[Any] = [slice(None)] * symbol.places.ndim
    index[dim] = slice(start, end, step)
    return Symbol(symbol.places[tuple(index)], symbol.axis)


def _split(symbol: Symbol, sizes: int | Sequence[int], dim: int = 0) -> list[Symbol]:
    dim = _dim(symbol, dim)
    length = symbol.places.shape[dim]
    if isinstance(sizes, int):
        cuts = list(range(sizes, length, sizes)) if length else []
    else:
        cuts = list(np.cumsum(sizes)[:-1])
    return [Symbol(part, symbol.axis) for part in np.split(symbol.places, cuts, dim)]


def _unbind(symbol: Symbol, dim: int = 0) -> list[Symbol]:
    return [_select(symbol, dim, i) for i in range(symbol.places.shape[_dim(symbol, dim)])]


def _unsqueeze(symbol: Symbol, dim: int) -> Symbol:
    dim = dim % (symbol.places.ndim + 1)
    axis = symbol.axis
    axis = axis + 1 if axis is not None and axis >= dim else axis
    return Symbol(np.expand_dims(symbol.places, dim), axis)


def _squeeze(symbol: Symbol, dims: int | Sequence[int] | None = None) -> Symbol:
    shape, axis = symbol.places.shape, symbol.axis
    if dims is None:
        chosen = list(range(len(shape)))
    else:
        chosen = [d % len(shape) for d in ([dims] if isinstance(dims, int) else dims)]
    gone = tuple(d for d in chosen if shape[d] == 1 and d != axis)
    if axis is not None:
        axis -= sum(d < axis for d in gone)
    return Symbol(symbol.places.squeeze(gone), axis)


def _repeat(symbol: Symbol, repeats: Sequence[int]) -> Symbol:
    more = len(repeats) - symbol.places.ndim
    axis = None if symbol.axis is None else symbol.axis + more
    if axis is not None and repeats[axis] != 1:
        raise UntraceableError("step repeats sequences")
    return Symbol(np.tile(symbol.places, tuple(repeats)), axis)


def _flip(symbol: Symbol, dims: Sequence[int]) -> Symbol:
    return Symbol(np.flip(symbol.places, tuple(_dim(symbol, d) for d in dims)), symbol.axis)


def _roll(symbol: Symbol, shifts: Sequence[int], dims: Sequence[int] = ()) -> Symbol:
    if not dims:
        raise UntraceableError("step rolls over all axes")
    axes = tuple(_dim(symbol, d) for d in dims)
    return Symbol(np.roll(symbol.places, tuple(shifts), axes), symbol.axis)


def cat(symbols: Sequence[Symbol], dim: int = 0) -> Symbol:
    """Return symbols beside each other; those without a batch are that of every sequence."""
    axes = {s.axis for s in symbols if s.axis is not None}
    if len(axes) > 1:
        raise UntraceableError("step sets an axis of units beside that of sequences")
    axis = next(iter(axes), None)
    joined = Symbol(symbols[0].places, axis)
    return Symbol(np.concatenate([s.places for s in symbols], _dim(joined, dim)), axis)


def stack(symbols: Sequence[Symbol], dim: int = 0) -> Symbol:
    """Return symbols along a new axis."""
    dim = dim % (symbols[0].places.ndim + 1)
    return cat([_unsqueeze(s, dim) for s in symbols], dim)


def same(symbol: Symbol, *_: Any, **__: Any) -> Symbol:
    """Return the symbol of a copy."""
    return symbol


VIEWS: dict[str, Callable[..., Any]] = {
    "t": _transpose,
    "transpose": _transpose,
    "permute": _permute,
    "select": _select,
    "slice": _slice,
    "split": _split,
    "split_with_sizes": _split,
    "unbind": _unbind,
    "unsqueeze": _unsqueeze,
    "squeeze": _squeeze,
    "repeat": _repeat,
    "flip": _flip,
    "roll": _roll,
    "clone": same,
    "alias": same,
    "contiguous": same,
    "lift_fresh": same,
}
"""The operations on one symbol that move numbers alone, by name."""

SHAPED: dict[str, Callable[..., Symbol]] = {
    "view": _view,
    "_unsafe_view": _view,
    "reshape": _view,
    "expand": _expand,
}
"""Those whose shape may contain the number of sequences, which they take as second argument."""
