"""Operations on all units of a row while a step is recorded: products, means, norms, softmax."""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from throughtime.engines.trace.program import UntraceableError
from throughtime.engines.trace.steps.recorder import Recorder, Static
from throughtime.engines.trace.steps.views import SHAPED, VIEWS, Symbol


def _mean(recorder: Recorder, x: Tensor, dims: Any = None, keepdim: bool = False, **_: Any) -> Any:
    symbol = recorder.symbol(x)
    total = recorder.reduce("sum", symbol, dims, keepdim)
    count = symbol.places.size // max(1, total.places.size)
    return recorder.map("mul", total, 1 / count)


def _sum(recorder: Recorder, x: Tensor, dims: Any = None, keepdim: bool = False, **_: Any) -> Any:
    return recorder.reduce("sum", recorder.symbol(x), dims, keepdim)


def _amax(recorder: Recorder, x: Tensor, dims: Any = (), keepdim: bool = False) -> Symbol:
    return recorder.reduce("max", recorder.symbol(x), dims, keepdim)


def _amin(recorder: Recorder, x: Tensor, dims: Any = (), keepdim: bool = False) -> Symbol:
    negative = recorder.map("neg", recorder.symbol(x))
    return recorder.map("neg", recorder.reduce("max", negative, dims, keepdim))


def _centred(recorder: Recorder, x: Symbol, dims: Any) -> tuple[Symbol, Symbol, Symbol, int]:
    """Return the mean, x less it, and the sum of squares of that, with their axes kept."""
    total = recorder.reduce("sum", x, dims, keepdim=True)
    count = x.places.size // max(1, total.places.size)
    mean = recorder.map("mul", total, 1 / count)
    rest = recorder.map("sub", x, mean)
    squares = recorder.reduce("sum", recorder.map("mul", rest, rest), dims, keepdim=True)
    return mean, rest, squares, count


def _var(
    recorder: Recorder,
    x: Tensor,
    dims: Any = None,
    *,
    correction: float | None = None,
    keepdim: bool = False,
) -> Symbol:
    symbol = recorder.symbol(x)
    dims = list(range(symbol.places.ndim)) if dims is None else list(dims)
    _, _, squares, count = _centred(recorder, symbol, dims)
    found = recorder.map("mul", squares, 1 / (count - (1 if correction is None else correction)))
    return found if keepdim else VIEWS["squeeze"](found, dims)


def _std(recorder: Recorder, x: Tensor, dims: Any = None, **options: Any) -> Symbol:
    return _root(recorder, _var(recorder, x, dims, **options))


def _root(recorder: Recorder, x: Symbol) -> Symbol:
    """Return a root whose gradient at 0 is 0, as that of torch's norms."""
    empty = recorder.map("eq", x, 0.0)
    return recorder.map(
        "where", empty, 0.0, recorder.map("sqrt", recorder.map("where", empty, 1.0, x))
    )


def _layer_norm(
    recorder: Recorder, x: Tensor, shape: Sequence[int], gain: Any, bias: Any, epsilon: float
) -> list[Symbol]:
    symbol = recorder.symbol(x)
    mean, rest, squares, count = _centred(recorder, symbol, list(range(-len(shape), 0)))
    variance = recorder.map("mul", squares, 1 / count)
    scale = recorder.map("rsqrt", recorder.map("add", variance, epsilon))
    found = recorder.map("mul", rest, scale)
    if gain is not None:
        found = recorder.map("mul", found, recorder.symbol(gain))
    if bias is not None:
        found = recorder.map("add", found, recorder.symbol(bias))
    return [found, mean, scale]


def _group_norm(
    recorder: Recorder,
    x: Tensor,
    gain: Any,
    bias: Any,
    batch: int,
    channels: int,
    size: int,
    groups: int,
    epsilon: float,
) -> list[Symbol]:
    symbol = recorder.symbol(x)
    shape = symbol.shape(recorder.batch)
    wide = SHAPED["view"](symbol, recorder.batch, [batch, groups, channels // groups * size])
    mean, rest, squares, count = _centred(recorder, wide, [2])
    variance = recorder.map("mul", squares, 1 / count)
    scale = recorder.map("rsqrt", recorder.map("add", variance, epsilon))
    found = SHAPED["view"](recorder.map("mul", rest, scale), recorder.batch, shape)
    for name, part in (("mul", gain), ("add", bias)):
        if part is not None:
            own = recorder.symbol(part)
            across = Symbol(own.places.reshape(-1, *(1,) * (len(shape) - 2)), None)
            found = recorder.map(name, found, across)
    return [found, mean, scale]


def _softmax(recorder: Recorder, x: Tensor, dim: int, half: bool) -> Symbol:
    del half
    symbol = recorder.symbol(x)
    less = recorder.map("sub", symbol, recorder.reduce("peak", symbol, [dim], keepdim=True))
    powers = recorder.map("exp", less)
    return recorder.map("div", powers, recorder.reduce("sum", powers, [dim], keepdim=True))


def _log_softmax(recorder: Recorder, x: Tensor, dim: int, half: bool) -> Symbol:
    del half
    symbol = recorder.symbol(x)
    less = recorder.map("sub", symbol, recorder.reduce("peak", symbol, [dim], keepdim=True))
    total = recorder.reduce("sum", recorder.map("exp", less), [dim], keepdim=True)
    return recorder.map("sub", less, recorder.map("log", total))


def _logsumexp(recorder: Recorder, x: Tensor, dims: Any, keepdim: bool = False) -> Symbol:
    symbol = recorder.symbol(x)
    peak = recorder.reduce("peak", symbol, dims, keepdim=True)
    powers = recorder.map("exp", recorder.map("sub", symbol, peak))
    total = recorder.map("log", recorder.reduce("sum", powers, dims, keepdim=True))
    found = recorder.map("add", total, peak)
    return found if keepdim else VIEWS["squeeze"](found, dims)


def _norm(
    recorder: Recorder, x: Tensor, order: float = 2, dims: Any = None, keepdim: bool = False
) -> Symbol:
    symbol = recorder.symbol(x)
    if order == 1:
        return recorder.reduce("sum", recorder.map("abs", symbol), dims, keepdim)
    if order == 2:
        squares = recorder.map("mul", symbol, symbol)
        return _root(recorder, recorder.reduce("sum", squares, dims, keepdim))
    raise UntraceableError(f"step uses a norm of order {order}")


def _mm(recorder: Recorder, left: Tensor, right: Tensor) -> Symbol:
    found = recorder.known(left)
    if not isinstance(found, Symbol):
        return VIEWS["t"](recorder.product(_transposed(recorder, right), left, transposed=True))
    if found.axis != 0:
        raise UntraceableError("step multiplies matrices along the axis of sequences")
    return recorder.product(found, right)


def _transposed(recorder: Recorder, tensor: Tensor) -> Symbol:
    symbol = VIEWS["t"](recorder.symbol(tensor))
    if symbol.axis != 0:
        raise UntraceableError("step multiplies matrices along the axis of sequences")
    return symbol


def _addmm(
    recorder: Recorder, added: Tensor, left: Tensor, right: Tensor, *, beta: Any = 1, alpha: Any = 1
) -> Symbol:
    if alpha != 1 or beta != 1:
        raise UntraceableError("step uses addmm with factors")
    return recorder.map("add", _mm(recorder, left, right), recorder.symbol(added))


def _bmm(recorder: Recorder, left: Tensor, right: Tensor) -> Symbol:
    """Return one product where there is one matrix, as of einsum."""
    found = recorder.known(left)
    known = recorder.known(right)
    if left.shape[0] != 1 or not isinstance(found, Symbol) or not isinstance(known, Static):
        raise UntraceableError("step multiplies stacks of matrices")
    if found.axis != 1:
        raise UntraceableError("step multiplies matrices along the axis of sequences")
    with recorder:
        matrix = right.squeeze(0)
    rows = Symbol(found.places.reshape(1, -1), 0)
    return VIEWS["unsqueeze"](recorder.product(rows, matrix), 0)


def _to_copy(recorder: Recorder, x: Tensor, **options: Any) -> Symbol:
    if options.get("dtype", x.dtype) in (x.dtype, recorder.dtype):
        return recorder.symbol(x)
    raise UntraceableError(f"step converts to {options['dtype']}")


OPERATIONS_OF_ROWS: dict[str, Callable[..., Any]] = {
    "mean": _mean,
    "sum": _sum,
    "amax": _amax,
    "amin": _amin,
    "var": _var,
    "std": _std,
    "native_layer_norm": _layer_norm,
    "native_group_norm": _group_norm,
    "_softmax": _softmax,
    "_log_softmax": _log_softmax,
    "logsumexp": _logsumexp,
    "linalg_vector_norm": _norm,
    "mm": _mm,
    "addmm": _addmm,
    "bmm": _bmm,
    "_to_copy": _to_copy,
}
"""Operations on all units of a row, by name."""
