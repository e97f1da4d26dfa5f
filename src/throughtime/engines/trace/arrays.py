"""What a tensor holds while a cell is traced: an array of program values, one for a block of units.

A block is all units of all sequences, so that a tensor of (batch, hidden) is an array of one value,
(1, 1); a unit parameter of (2, hidden) is (2, 1), a stack of three gates (3, 1, 1), their
concatenation (1, 3). Along each axis the tensor's size is a multiple of the array's, and moving
whole blocks about is moving values about. Whatever would take a block apart is refused.
"""

import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

import numpy as np

from throughtime.engines.trace.expressions import Value

Array: TypeAlias = Any
"""A numpy array of values."""
Shape: TypeAlias = Sequence[int]


class BlockError(Exception):
    """A block of units would be taken apart."""


def filled(value: Value, shape: Shape = ()) -> Array:
    """The array of a tensor that holds one value throughout, of as many axes as its shape."""
    array = np.empty((1,) * len(shape), dtype=object)
    array.fill(value)
    return array


def array_of(values: Iterable[Any], shape: Shape) -> Array:
    """An array of given values.

    Arguments:
        values: row by row.
        shape: of the array.
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
        function: yields a value or a tuple of values.
        operands: arrays, and what is no array and is passed as it is.
        options: passed by name.
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


def block(array: Array, shape: Shape, axis: int) -> int:
    """How many elements of a tensor one value stands for along an axis.

    Arguments:
        array: its values.
        shape: of the tensor.
        axis: which.
    """
    return shape[axis] // array.shape[axis]


def reshape(array: Array, old: Shape, new: Shape) -> Array:
    """The array of a reshaped tensor: axes of size one come and go.

    Arguments:
        array: of the tensor.
        old: the tensor's shape.
        new: its shape afterwards.
    """
    sizes = [(size, count) for size, count in zip(old, array.shape, strict=True) if size != 1]
    if [size for size, _ in sizes] != [size for size in new if size != 1]:
        raise BlockError
    counts = (count for _, count in sizes)
    return array.reshape([1 if size == 1 else next(counts) for size in new])


def select(array: Array, shape: Shape, axis: int, index: int) -> Array:
    """The array of one element along an axis.

    Arguments:
        array: of the tensor.
        shape: of the tensor.
        axis: along which.
        index: of the element.
    """
    if block(array, shape, axis) != 1:
        raise BlockError
    return np.take(array, index, axis)


def cut(array: Array, shape: Shape, axis: int, start: int, stop: int, step: int = 1) -> Array:
    """The array of some elements along an axis.

    Arguments:
        array: of the tensor.
        shape: of the tensor.
        axis: along which.
        start, stop, step: between 0 and the size of the axis.
    """
    whole = block(array, shape, axis)
    if start == 0 and stop == shape[axis] and step == 1:
        return array
    if start % whole or stop % whole or (step != 1 and whole != 1):
        raise BlockError
    return array[(slice(None),) * axis + (slice(start // whole, stop // whole, step),)]


def stack(arrays: Sequence[Array], axis: int) -> Array:
    """The array of stacked tensors.

    Arguments:
        arrays: of the tensors, all of one shape.
        axis: the new one.
    """
    return np.stack(np.broadcast_arrays(*arrays), axis)


def concatenate(arrays: Sequence[Array], shapes: Sequence[Shape], axis: int) -> Array:
    """The array of concatenated tensors.

    Arguments:
        arrays: of the tensors.
        shapes: of the tensors.
        axis: along which.
    """
    blocks = {block(array, shape, axis) for array, shape in zip(arrays, shapes, strict=True)}
    if len(blocks) != 1:
        raise BlockError
    others = [(*a.shape[:axis], 1, *a.shape[axis + 1 :]) for a in arrays]
    common = np.broadcast_shapes(*others)
    spread = [
        np.broadcast_to(a, (*common[:axis], a.shape[axis], *common[axis + 1 :])) for a in arrays
    ]
    return np.concatenate(spread, axis)


def placed(array: Array, zeros: Array, axis: int, start: int, step: int = 1) -> Array:
    """Zeros but for an array at some places along an axis.

    Arguments:
        array: what to place.
        zeros: of the whole tensor.
        axis: along which.
        start, step: of the places.
    """
    result = zeros.copy()
    stop = start + step * array.shape[axis]
    result[(slice(None),) * axis + (slice(start, stop, step),)] = array
    return result


def reduced(
    rule: Callable[[Value, Value], Value],
    array: Array,
    shape: Shape,
    axes: Sequence[int],
    keep: bool,
    of_gradient: bool,
) -> Array:
    """The array of a tensor's sum, or the like.

    Arguments:
        rule: what it does to two values.
        array: of the tensor.
        shape: of the tensor.
        axes: over which it sums.
        keep: whether they stay, of size one.
        of_gradient: whether a sum over a block undoes a broadcast: it stays one value for each unit
            and sequence, to be summed by the engine.
    """
    for axis in axes:
        size = block(array, shape, axis)
        if size != 1 and not (of_gradient and array.shape[axis] == 1):
            raise BlockError
    for axis in axes:
        layers = [np.take(array, [i], axis) for i in range(array.shape[axis])]
        array = layers[0]
        for layer in layers[1:]:
            array = elementwise(rule, (array, layer), {})[0]
    return array if keep else np.squeeze(array, tuple(axes))


def pieces(sizes: Iterable[int]) -> list[tuple[int, int]]:
    """Where consecutive pieces of these sizes begin and end."""
    ends = list(itertools.accumulate(sizes))
    return list(zip([0, *ends[:-1]], ends, strict=True))
