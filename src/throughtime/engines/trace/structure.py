"""What operations that compute nothing do to arrays of values: views, stacks and the like."""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
from torch import Tensor

from throughtime.engines.trace import arrays
from throughtime.engines.trace.arrays import Array, BlockError, Shape
from throughtime.engines.trace.expressions import Value, call

Find: TypeAlias = Callable[[Tensor], Array]
Move: TypeAlias = Callable[..., Any]
Rule: TypeAlias = Callable[[Value, Value], Value]


def _kept(find: Find, x: Tensor, *_: Any, **__: Any) -> Array:
    return find(x)


def _view(find: Find, x: Tensor, shape: Shape, *_: Any) -> Array:
    new = [x.numel() // max(1, -int(np.prod(shape))) if s == -1 else s for s in shape]
    return arrays.reshape(find(x), x.shape, new)


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
    return arrays.select(find(x), x.shape, axis, index)


def _slice(
    find: Find,
    x: Tensor,
    axis: int = 0,
    start: int | None = None,
    stop: int | None = None,
    step: int = 1,
) -> Array:
    axis %= x.dim()
    start, stop, step = slice(start, stop, step).indices(x.shape[axis])
    return arrays.cut(find(x), x.shape, axis, start, stop, step)


def _split(find: Find, x: Tensor, sizes: int | Sequence[int], axis: int = 0) -> list[Array]:
    axis %= x.dim()
    if isinstance(sizes, int):
        whole = x.shape[axis]
        sizes = [min(sizes, whole - start) for start in range(0, whole, sizes)]
    return [arrays.cut(find(x), x.shape, axis, a, b) for a, b in arrays.pieces(sizes)]


def _unbind(find: Find, x: Tensor, axis: int = 0) -> list[Array]:
    return [arrays.select(find(x), x.shape, axis, i) for i in range(x.shape[axis])]


def _stack(find: Find, tensors: Sequence[Tensor], axis: int = 0) -> Array:
    return arrays.stack([find(x) for x in tensors], axis)


def _concatenate(find: Find, tensors: Sequence[Tensor], axis: int = 0) -> Array:
    axis %= tensors[0].dim()
    return arrays.concatenate([find(x) for x in tensors], [x.shape for x in tensors], axis)


STRUCTURE: dict[str, Move] = {
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
"""By the name of the operation; each takes what finds a tensor's array, and its arguments."""


def expanded(find: Find, whole: Shape, x: Tensor, shape: Shape) -> Array:
    """The array of an expanded tensor.

    Arguments:
        find: gives the array of a tensor of any shape.
        whole: (batch, hidden).
        x: of any shape.
        shape: afterwards; -1 where an axis stays.
    """
    array = find(x)
    array = array.reshape((1,) * (len(shape) - array.ndim) + array.shape)
    old = (1,) * (len(shape) - x.dim()) + tuple(x.shape)
    for axis, (before, after) in enumerate(zip(old, shape, strict=True)):
        units = after == whole[0] or (axis == len(shape) - 1 and after == whole[1])
        if before == 1 and after > 1 and not units:
            array = np.repeat(array, after, axis)
    return array


REDUCTIONS: dict[str, Rule] = {
    "sum": lambda a, b: a + b,
    "mean": lambda a, b: a + b,
    "amax": lambda a, b: call("maximum", a, b),
    "amin": lambda a, b: call("minimum", a, b),
}
"""By the name of the operation, what it does to two values."""


def reduced(
    name: str, find: Find, of_gradient: bool, x: Tensor, *options: Any, **named: Any
) -> Array:
    """The array of a sum or the like.

    Arguments:
        name: of the reduction.
        find: gives the array of a tensor of any shape.
        of_gradient: whether a sum over units or sequences undoes a broadcast.
        x: of any shape.
        options: the axes, and whether they stay.
        named: the dtype, which is not read.
    """
    axes = options[0] if options else named.get("dim")
    keep = bool(options[1]) if len(options) > 1 else bool(named.get("keepdim"))
    chosen = sorted(a % x.dim() for a in axes) if axes else list(range(x.dim()))
    if named.get("dtype") not in (None, x.dtype):
        raise NotImplementedError
    undoes = of_gradient and name == "sum"
    array = arrays.reduced(REDUCTIONS[name], find(x), x.shape, chosen, keep, undoes)
    if name != "mean":
        return array
    count = int(np.prod([x.shape[axis] for axis in chosen]))
    return arrays.elementwise(lambda value: value / count, [array], {})[0]


def placed(name: str, find: Find, zero: Value, x: Tensor, shape: Shape, *where: int) -> Array:
    """The array of the gradient of a view, which is zero beyond the view.

    Arguments:
        name: select_backward or slice_backward.
        find: gives the array of a tensor of any shape.
        zero: the value 0.
        x: the gradient of the view, of its shape.
        shape: of what was viewed.
        where: the view's axis, and its index or bounds.
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
    zeros = arrays.array_of([zero] * int(np.prod(whole)), whole)
    return arrays.placed(array, zeros, axis, start // block, step)
