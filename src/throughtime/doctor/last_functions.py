"""The last function before a tensor, by autograd's graph; and the range of its values."""

import dataclasses
import math
import re
from collections.abc import Collection, Iterable
from typing import Any

from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from throughtime.layers import GRU, LSTM, RNN

SAME_VALUES = {
    *("Alias", "AsStrided", "Cat", "Clone", "Copy", "Expand", "Flip", "Gather", "Index"),
    *("IndexSelect", "MaskedSelect", "Permute", "Repeat", "ReshapeAlias", "Select", "Slice"),
    *("Split", "SplitWithSizes", "Squeeze", "Stack", "T", "ToCopy", "Transpose", "Unbind"),
    *("UnsafeSplit", "UnsafeView", "Unsqueeze", "View"),
}
"""Functions that give the same values in another form, as autograd's graph names them."""
_RANGES = {
    "Sigmoid": (0.0, 1.0),
    "Softmax": (0.0, 1.0),
    "Tanh": (-1.0, 1.0),
    "Hardtanh": (-1.0, 1.0),
    "Relu": (0.0, math.inf),
    "Softplus": (0.0, math.inf),
    "Exp": (0.0, math.inf),
    "Abs": (0.0, math.inf),
    "Sqrt": (0.0, math.inf),
    "LinalgVectorNorm": (0.0, math.inf),
    "Norm": (0.0, math.inf),
    "CdistForward": (0.0, math.inf),
    "Cdist": (0.0, math.inf),
    "LogSoftmax": (-math.inf, 0.0),
    "LogSigmoid": (-math.inf, 0.0),
}
_WORDS = {
    "Relu": "ReLU",
    "LogSoftmax": "log_softmax",
    "Softmax": "softmax",
    "Sigmoid": "sigmoid",
    "Sqrt": "square root",
    "LinalgVectorNorm": "norm",
    "CdistForward": "distance",
}
_BOUNDED = (nn.LSTM, nn.GRU, nn.RNN, nn.LSTMCell, nn.GRUCell, nn.RNNCell, LSTM, GRU, RNN)


@dataclasses.dataclass(frozen=True)
class LastFunction:
    """The function that a tensor comes from, with no other but views of its result between them.

    Attributes:
        name: name of the function, as in autograd's graph; "" for a recurrent layer.
        words: name of the function or of the layer, for a reader.
        low, high: range of its values.
    """

    name: str
    words: str
    low: float
    high: float


def last_function(
    tensor: Tensor, bare: dict[str, tuple[nn.Module, list[Any]]], *, through: Collection[str] = ()
) -> Any:
    """Return the last function before a tensor; None if it is not known, or there are several.

    Arguments:
        tensor: a tensor with a graph.
        bare: recurrent modules by name, each with the results of its calls in the graph.
        through: names of functions that do not count, like views.
    """
    nodes = {
        node: (name, module)
        for name, (module, results) in bare.items()
        for node in _nodes(module, results)
    }
    found: set[LastFunction | None] = set()
    left, seen = [tensor.grad_fn], {tensor.grad_fn}
    while left:
        node = left.pop()
        if node in nodes:
            found.add(_of_layer(*nodes[node]))
            continue
        name = _name_of(node)
        if node is None or not (name in SAME_VALUES or name in through):
            found.add(_of_function(node))
            continue
        before = [one for one, _ in node.next_functions if one not in seen]
        seen.update(before)
        left += [one for one in before if one is not None]
    return found.pop() if len(found) == 1 else None


def _of_function(node: Any, depth: int = 8) -> LastFunction | None:
    """Return a function of a known range: itself, or made of one by few others.

    These are its negative, its product with a constant number, sums of numbers of one sign, and
    even powers.
    """
    name = _name_of(node)
    if name in _RANGES:
        return LastFunction(name, _WORDS.get(name, name.lower()), *_RANGES[name])
    if name == "Pow":
        even = float(getattr(node, "_saved_exponent", 1)) % 2 == 0
        return LastFunction(name, "even power", 0.0, math.inf) if even else None
    if node is None or depth == 0:
        return None
    inner = _of_function(node.next_functions[0][0], depth - 1) if node.next_functions else None
    if inner is None:
        return None
    if name in ("Sum", "Mean") and (inner.low >= 0 or inner.high <= 0):
        low, high = (0.0, math.inf) if inner.low >= 0 else (-math.inf, 0.0)
        return LastFunction(name, f"{name.lower()} of the {inner.words}", low, high)
    if name in SAME_VALUES and len(node.next_functions) == 1:
        return inner
    factor = -1.0 if name == "Neg" else _factor(node, name)
    if not factor:
        return None
    low, high = sorted(factor * bound if bound else 0.0 for bound in (inner.low, inner.high))
    return LastFunction(name, f"negative {inner.words}" if factor < 0 else inner.words, low, high)


def _factor(node: Any, name: str) -> float | None:
    """Return the constant by which a node multiplies or divides; None if it does neither."""
    others = [one for one, _ in node.next_functions[1:] if one is not None]
    if name not in ("Mul", "Div") or others:
        return None
    other = getattr(node, "_saved_other", None)
    if not isinstance(other, Tensor) or other.numel() != 1:
        return None
    return float(other) if name == "Mul" else 1 / float(other) if float(other) else None


def _name_of(node: Any) -> str:
    return "" if node is None else re.sub(r"Backward\d*$", "", node.name())


def views_before(tensor: Tensor) -> list[Any]:
    """List the nodes of a tensor's graph from it back to its last function, that one included."""
    left, found = [tensor.grad_fn], []
    while left:
        node = left.pop()
        if node is None or node in found:
            continue
        found.append(node)
        if re.sub(r"Backward\d*$", "", node.name()) in SAME_VALUES:
            left += [one for one, _ in node.next_functions]
    return found


def _of_layer(name: str, module: nn.Module) -> LastFunction | None:
    if not isinstance(module, _BOUNDED) or getattr(module, "proj_size", 0):
        return None
    relu = getattr(module, "nonlinearity", getattr(module, "mode", "")) in ("relu", "RNN_RELU")
    low, high = (0.0, math.inf) if relu else (-1.0, 1.0)
    return LastFunction("", f"the recurrent layer {name!r}", low, high)


def _nodes(module: nn.Module, results: Iterable[Any]) -> Iterable[Any]:
    """Yield the nodes of h_t in the results of a module, not those of an LSTM's c_t."""
    for result in results:
        parts = result if isinstance(result, tuple) else (result,)
        if isinstance(result, PackedSequence):
            parts = (result.data,)
        if isinstance(module, nn.LSTMCell):
            parts = parts[:1]
        for part in parts:
            part = part[0] if type(part) is tuple and part else part
            part = part.data if isinstance(part, PackedSequence) else part
            if isinstance(part, Tensor) and part.grad_fn is not None:
                yield part.grad_fn
