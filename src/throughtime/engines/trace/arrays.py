"""The content of a tensor while a cell is traced: an array with one program value for each block.

A block is all units of all sequences. A tensor of (batch, hidden) is an array of one value, (1, 1);
a unit parameter of (2, hidden) is (2, 1), a stack of three gates (3, 1, 1), their concatenation
(1, 3). Along each axis the tensor's size is a multiple of the array's. Views, stacks and the like
move whole blocks, and so move values. An operation that would split a block is refused.
"""

import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

import numpy as np
from torch import Tensor

from throughtime.engines.trace.builder import Value, call

Array: TypeAlias = Any
"""A numpy array of values."""
Shape: TypeAlias = Sequence[int]
Find: TypeAlias = Callable[[Tensor], Array]
Rule: TypeAlias = Callable[[Value, Value], Value]


class BlockError(Exception):
    """An operation would split a block of units."""


def filled(value: Value, shape: Shape = ()) -> Array:
    """The array of a tensor that holds one value throughout, with as many axes as its shape."""
    array = np.empty((1,) * len(shape), dtype=object)
    array.fill(value)
    return array


def array_of(values: Iterable[Any], shape: Shape) -> Array:
    """An array of given values.

    Arguments:
        values: The values, row by row.
    """
    array = np.empty(tuple(shape), dtype=object)
    for index, value in zip(np.ndindex(*shape), values, strict=True):
        array[index] = value
    return array


def elementwise(
    function: Callable[..., Any], operands: Sequence[Any], options: dict[str, Any]
) -> list[Array]:
    """The results of a function of values, on arrays that broadcast together.

    Arguments:
        function: A function that yields a value or a tuple of values.
        operands: Arrays, and other arguments, which are passed unchanged.
    """
    arrays = [o for o in operands if isinstance(o, np.ndarray)]
    shape = np.broadcast_shapes(*(a.shape for a in arrays))
    spread = iter([np.broadcast_to(a, shape) for a in arrays])
    columns = [next(spread) if isinstance(o, np.ndarray) else o for o in operands]
    results: list[Any] = []
    for index in np.ndindex(*shape):
        found = function(
            *(c[index] if isinstance(c, np.ndarray) else c for c in columns), **options
        )
        results.append(found if isinstance(found, tuple) else (found,))
    return [array_of(values, shape) for values in zip(*results, strict=True)]


def expanded(find: Find, whole: Shape, x: Tensor, shape: Shape) -> Array:
    """The array of an expanded tensor.

    Arguments:
        whole: The sizes (batch, hidden).
        shape: The shape afterwards; -1 for an axis that stays.
    """
    array = find(x)
    array = array.reshape((1,) * (len(shape) - array.ndim) + array.shape)
    old = (1,) * (len(shape) - x.dim()) + tuple(x.shape)
    for axis, (before, after) in enumerate(zip(old, shape, strict=True)):
        units = after == whole[0] or (axis == len(shape) - 1 and after == whole[1])
        if before == 1 and after > 1 and not units:
            array = np.repeat(array, after, axis)
    return array


def reduced(
    name: str, find: Find, of_gradient: bool, x: Tensor, *options: Any, **named: Any
) -> Array:
    """The array of a sum or another reduction.

    Arguments:
        of_gradient: If True, a sum over a block undoes a broadcast: it stays one value for each
            unit and sequence, and the engine sums it.
        options: The axes, and if they stay.
        named: The same by name; the dtype must be the tensor's own.
    """
    axes = options[0] if options else named.get("dim")
    keep = bool(options[1]) if len(options) > 1 else bool(named.get("keepdim"))
    chosen = sorted(a % x.dim() for a in axes) if axes else list(range(x.dim()))
    if named.get("dtype") not in (None, x.dtype):
        raise NotImplementedError
    array, undoes = find(x), of_gradient and name == "sum"
    for axis in chosen:
        if _block(array, x, axis) != 1 and not (undoes and array.shape[axis] == 1):
            raise BlockError
    for axis in chosen:
        layers = [np.take(array, [i], axis) for i in range(array.shape[axis])]
        array = layers[0]
        for layer in layers[1:]:
            array = elementwise(REDUCTIONS[name], (array, layer), {})[0]
    array = array if keep else np.squeeze(array, tuple(chosen))
    if name != "mean":
        return array
    count = int(np.prod([x.shape[axis] for axis in chosen]))
    return elementwise(lambda value: value / count, [array], {})[0]


def placed(name: str, find: Find, zero: Value, x: Tensor, shape: Shape, *where: int) -> Array:
    """The array of the gradient of a view, which is zero beyond the view.

    Arguments:
        name: select_backward or slice_backward.
        x: The gradient of the view, with the view's shape.
        shape: The shape of the tensor that was viewed.
        where: The view's axis, and its index or bounds.
    """
    axis, array = where[0] % len(shape), find(x)
    if name == "select_backward":
        array, start, step, size = np.expand_dims(array, axis), where[1] % shape[axis], 1, 1
    else:
        start, stop, step = slice(*where[1:]).indices(shape[axis])
        size = len(range(start, stop, step))
        if size == shape[axis]:
            return array
    block = size // array.shape[axis]
    if start % block or shape[axis] % block or (block != 1 and step != 1):
        raise BlockError
    if name == "select_backward" and shape[axis] > 1 and block != 1:
        raise BlockError
    whole = list(array.shape)
    whole[axis] = shape[axis] // block
    result = array_of([zero] * int(np.prod(whole)), whole)
    start, stop = start // block, start // block + step * array.shape[axis]
    result[(slice(None),) * axis + (slice(start, stop, step),)] = array
    return result


def _block(array: Array, x: Tensor, axis: int) -> int:
    """The number of a tensor's elements along an axis for which one value stands."""
    return x.shape[axis] // array.shape[axis]


def _kept(find: Find, x: Tensor, *_: Any, **__: Any) -> Array:
    return find(x)


def _view(find: Find, x: Tensor, shape: Shape, *_: Any) -> Array:
    """The array of a reshaped tensor: only axes of size one may come and go."""
    array = find(x)
    new = [x.numel() // max(1, -int(np.prod(shape))) if s == -1 else s for s in shape]
    sizes = [(size, count) for size, count in zip(x.shape, array.shape, strict=True) if size != 1]
    if [size for size, _ in sizes] != [size for size in new if size != 1]:
        raise BlockError
    counts = (count for _, count in sizes)
    return array.reshape([1 if size == 1 else next(counts) for size in new])


def _unsqueeze(find: Find, x: Tensor, axis: int) -> Array:
    return np.expand_dims(find(x), axis)


def _squeeze(find: Find, x: Tensor, axes: int | Sequence[int] | None = None) -> Array:
    chosen = range(x.dim()) if axes is None else [axes] if isinstance(axes, int) else axes
    return np.squeeze(find(x), tuple(a for a in chosen if x.shape[a] == 1))


def _permute(find: Find, x: Tensor, axes: Sequence[int]) -> Array:
    return np.transpose(find(x), axes)


def _transpose(find: Find, x: Tensor, a: int = 0, b: int = 1) -> Array:
    return find(x) if x.dim() < 2 else np.swapaxes(find(x), a, b)


def _select(find: Find, x: Tensor, axis: int, index: int) -> Array:
    array = find(x)
    if _block(array, x, axis) != 1:
        raise BlockError
    return np.take(array, index, axis)


def _slice(
    find: Find,
    x: Tensor,
    axis: int = 0,
    start: int | None = None,
    stop: int | None = None,
    step: int = 1,
) -> Array:
    axis %= x.dim()
    first, last, step = slice(start, stop, step).indices(x.shape[axis])
    array = find(x)
    whole = _block(array, x, axis)
    if first == 0 and last == x.shape[axis] and step == 1:
        return array
    if first % whole or last % whole or (step != 1 and whole != 1):
        raise BlockError
    return array[(slice(None),) * axis + (slice(first // whole, last // whole, step),)]


def _split(find: Find, x: Tensor, sizes: int | Sequence[int], axis: int = 0) -> list[Array]:
    axis %= x.dim()
    if isinstance(sizes, int):
        whole = x.shape[axis]
        sizes = [min(sizes, whole - start) for start in range(0, whole, sizes)]
    ends = list(itertools.accumulate(sizes))
    return [_slice(find, x, axis, a, b) for a, b in zip([0, *ends[:-1]], ends, strict=True)]


def _unbind(find: Find, x: Tensor, axis: int = 0) -> list[Array]:
    return [_select(find, x, axis, i) for i in range(x.shape[axis])]


def _stack(find: Find, tensors: Sequence[Tensor], axis: int = 0) -> Array:
    return np.stack(np.broadcast_arrays(*map(find, tensors)), axis)


def _concatenate(find: Find, tensors: Sequence[Tensor], axis: int = 0) -> Array:
    axis %= tensors[0].dim()
    arrays = [find(x) for x in tensors]
    if len({_block(array, x, axis) for array, x in zip(arrays, tensors, strict=True)}) != 1:
        raise BlockError
    others = [(*a.shape[:axis], 1, *a.shape[axis + 1 :]) for a in arrays]
    common = np.broadcast_shapes(*others)
    spread = [
        np.broadcast_to(a, (*common[:axis], a.shape[axis], *common[axis + 1 :])) for a in arrays
    ]
    return np.concatenate(spread, axis)


STRUCTURE: dict[str, Callable[..., Any]] = {
    **dict.fromkeys(("detach", "alias", "clone", "lift", "contiguous", "_conj"), _kept),
    **dict.fromkeys(("view", "_unsafe_view", "reshape", "_reshape_alias"), _view),
    "unsqueeze": _unsqueeze,
    "squeeze": _squeeze,
    "permute": _permute,
    "transpose": _transpose,
    "t": _transpose,
    "select": _select,
    "slice": _slice,
    "split": _split,
    "split_with_sizes": _split,
    "unbind": _unbind,
    "stack": _stack,
    "cat": _concatenate,
}
"""Operations that compute nothing, by name. Each takes a function that gives the array of a tensor,
then the operation's arguments."""

REDUCTIONS: dict[str, Rule] = {
    "sum": lambda a, b: a + b,
    "mean": lambda a, b: a + b,
    "amax": lambda a, b: call("maximum", a, b),
    "amin": lambda a, b: call("minimum", a, b),
}
"""Operations on two values, by the name of the reduction."""
