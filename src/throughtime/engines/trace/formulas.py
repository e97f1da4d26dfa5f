"""Torch's elementwise operations in terms of those of programs, as torch computes them on a CPU.

Kinks are selections rather than minima and maxima, and what is selected away is kept finite, so
that a program differentiated by torch has the derivatives of torch's own functions.
"""

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import torch

from throughtime.engines.trace.builder import Operand, Value, as_kind, call

_SIXTH = 0.1666666716337204  # in single precision, as torch has it in double precision too


def where(mask: Operand, yes: Operand, no: Operand) -> Value:
    """`yes` where the mask is true, else `no`."""
    return call("where", mask, yes, no)


def sigmoid(x: Operand) -> Value:
    """The logistic function."""
    return call("sigmoid", x)


def tanh(x: Operand) -> Value:
    """The hyperbolic tangent."""
    return call("tanh", x)


def exp(x: Operand) -> Value:
    """The exponential."""
    return call("exp", x)


def power(x: Operand, exponent: Operand) -> Value:
    """x to a power: by products and roots where the exponent is a small number."""
    known = exponent.constant if isinstance(exponent, Value) else exponent
    if known is None or not isinstance(x, Value):
        return call("pow", x, exponent)
    match known:
        case 0:
            return Value(x.builder, x.builder.constant(1))
        case 0.5:
            return call("sqrt", x)
        case -0.5:
            return 1 / call("sqrt", x)
        case 1 | 2 | 3 | 4:
            return _whole_power(x, int(known))
        case -1 | -2 | -3 | -4:
            return 1 / _whole_power(x, -int(known))
    return call("pow", x, known)


def _whole_power(x: Value, exponent: int) -> Value:
    if exponent == 1:
        return x
    return x * x * x if exponent == 3 else _whole_power(x * x, exponent // 2)


def relu(x: Value) -> Value:
    """max(x, 0)."""
    return where(x <= 0, 0.0, x)


def threshold(x: Value, bound: float, value: Operand) -> Value:
    """x above the bound, else the value."""
    return where(x <= bound, value, x)


def threshold_backward(gradient: Value, x: Value, bound: float) -> Value:
    """Also that of relu, of which x is then the result."""
    return where(x <= bound, 0.0, gradient)


def leaky_relu(x: Value, slope: float = 0.01) -> Value:
    """x, or slope * x below 0."""
    return where(x > 0, x, x * slope)


def leaky_relu_backward(gradient: Value, x: Value, slope: float, is_result: bool) -> Value:
    """The gradient of leaky_relu."""
    return where(x > 0, gradient, gradient * slope)


def prelu(x: Value, slope: Value) -> Value:
    """leaky_relu with a slope that is learnt."""
    return where(x > 0, x, slope * x)


def prelu_backward(gradient: Value, x: Value, slope: Value) -> tuple[Value, Value]:
    """The gradient of prelu, in x and the slope."""
    return where(x > 0, gradient, slope * gradient), where(x > 0, 0.0, x * gradient)


def elu(x: Value, alpha: float = 1, scale: float = 1, input_scale: float = 1) -> Value:
    """Also selu and celu."""
    below = where(x > 0, 0.0, x) * input_scale
    return where(x > 0, x * scale, call("expm1", below) * (alpha * scale))


def elu_backward(
    gradient: Value, alpha: float, scale: float, input_scale: float, is_result: bool, x: Value
) -> Value:
    """The gradient of elu; x may be its result."""
    slope = input_scale * (x + alpha * scale)
    if not is_result:
        slope = input_scale * (alpha * scale) * exp(where(x > 0, 0.0, x) * input_scale)
    return where(x > 0, gradient * scale, gradient * slope)


def silu(x: Value) -> Value:
    """x * sigmoid(x)."""
    return x * sigmoid(x)


def silu_backward(gradient: Value, x: Value) -> Value:
    """The gradient of silu."""
    s = sigmoid(x)
    return gradient * s * (1 + x * (1 - s))


def _log1p_exp(x: Value) -> Value:
    """log(1 + exp(x)) that does not overflow."""
    return where(x > 0, x, 0.0) + call("log1p", exp(where(x > 0, -x, x)))  # not |x|: smooth at 0


def softplus(x: Value, beta: float = 1, bound: float = 20) -> Value:
    """log(1 + exp(beta x)) / beta, and x itself above the bound."""
    scaled = x * beta
    linear = scaled > bound
    return where(linear, x, call("log1p", exp(where(linear, 0.0, scaled))) / beta)


def softplus_backward(gradient: Value, x: Value, beta: float, bound: float) -> Value:
    """The gradient of softplus."""
    scaled = x * beta
    return where(scaled > bound, gradient, gradient * sigmoid(scaled))


def mish(x: Value) -> Value:
    """x * tanh(softplus(x))."""
    return x * tanh(_log1p_exp(x))


def mish_backward(gradient: Value, x: Value) -> Value:
    """The gradient of mish."""
    t = tanh(_log1p_exp(x))
    return gradient * (t + x * sigmoid(x) * (1 - t * t))


def logsigmoid(x: Value) -> tuple[Value, Value]:
    """log(sigmoid(x)), and exp(-|x|) for its gradient."""
    small = exp(where(x < 0, x, -x))
    return where(x < 0, x, 0.0) - call("log1p", small), small


def logsigmoid_backward(gradient: Value, x: Value, small: Value) -> Value:
    """The gradient of logsigmoid."""
    inner = small / (1 + small)
    return gradient * where(x < 0, 1 - inner, inner)


def gelu(x: Value, approximate: str = "none") -> Value:
    """x times the normal distribution's probability below x."""
    if approximate == "none":
        return x * (0.5 * (1 + call("erf", x * math.sqrt(0.5))))
    return 0.5 * x * (1 + _gelu_inner(x))


def gelu_backward(gradient: Value, x: Value, approximate: str = "none") -> Value:
    """The gradient of gelu."""
    if approximate == "none":
        below = 0.5 * (1 + call("erf", x * math.sqrt(0.5)))
        return gradient * (below + x * (exp(-0.5 * x * x) / math.sqrt(2 * math.pi)))
    inner = _gelu_inner(x)
    slope = math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * x * x)
    return gradient * (0.5 * (1 + inner) + 0.5 * x * (1 - inner * inner) * slope)


def _gelu_inner(x: Value) -> Value:
    return tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * (x * x * x)))


def hardtanh(x: Value, low: float = -1, high: float = 1) -> Value:
    """x between its bounds; also relu6."""
    return where(x <= low, low, where(x >= high, high, x))


def hardtanh_backward(gradient: Value, x: Value, low: float, high: float) -> Value:
    """The gradient of hardtanh: 0 where x is nan."""
    return where(x > low, where(x < high, gradient, 0.0), 0.0)


def hardsigmoid(x: Value) -> Value:
    """relu6(x + 3) / 6."""
    return hardtanh(x + 3, 0, 6) / 6


def hardsigmoid_backward(gradient: Value, x: Value) -> Value:
    """The gradient of hardsigmoid: 0 where x is nan."""
    return where(x > -3, where(x < 3, gradient * _SIXTH, 0.0), 0.0)


def hardswish(x: Value) -> Value:
    """x * hardsigmoid(x)."""
    return x * hardtanh(x + 3, 0, 6) / 6


def hardswish_backward(gradient: Value, x: Value) -> Value:
    """The gradient of hardswish."""
    inner = gradient * (x / 3 + 0.5)
    return where(x <= -3, 0.0, where(x >= 3, gradient, inner))


def softshrink(x: Value, bound: float = 0.5) -> Value:
    """x drawn to 0 by the bound."""
    return where(x > bound, x - bound, where(x < -bound, x + bound, x * 0.0))


def hardshrink(x: Value, bound: float = 0.5) -> Value:
    """x, or 0 within the bound."""
    return where(x >= -bound, where(x <= bound, 0.0, x), x)


def shrink_backward(gradient: Value, x: Value, bound: float) -> Value:
    """The gradient of both shrinking functions: 0 where x is nan."""
    return where(x > bound, gradient, where(x < -bound, gradient, 0.0))


def clamp(x: Value, low: Operand | None = None, high: Operand | None = None) -> Value:
    """x between bounds, either of which may be missing; nan in, nan out."""
    if low is not None:
        x = where(_beyond(x, low, "lt"), low, x)
    if high is not None:
        x = where(_beyond(x, high, "gt"), high, x)
    return x


def clamp_above(x: Value, high: Operand) -> Value:
    """x where it is below the bound."""
    return clamp(x, None, high)


def _beyond(x: Value, bound: Operand, comparison: str) -> Value:
    beyond = call(comparison, x, bound)
    known = bound.constant if isinstance(bound, Value) else bound
    if known is not None and not math.isnan(known):
        return beyond
    bound = bound if isinstance(bound, Value) else Value(x.builder, x.builder.constant(bound))
    return call("logical_or", beyond, isnan(bound))


def isnan(x: Value) -> Value:
    """A mask of the places where x is not a number."""
    return call("ne", x, x)


def isinf(x: Value) -> Value:
    """A mask of the places where x is infinite."""
    return call("eq", call("abs", x), math.inf)


def logical_xor(a: Value, b: Value) -> Value:
    """A mask of the places where exactly one of two masks is true."""
    one = call("logical_and", a, call("logical_not", b))
    return call("logical_or", one, call("logical_and", call("logical_not", a), b))


def lerp(start: Value, end: Value, weight: Operand) -> Value:
    """start + weight * (end - start), exact at either end."""
    difference = end - start
    near_start = start + weight * difference
    near_end = end - difference * (1 - weight)
    if isinstance(weight, Value):
        return where(call("abs", weight) < 0.5, near_start, near_end)
    return near_start if abs(weight) < 0.5 else near_end


def addcmul(x: Value, a: Value, b: Value, *, value: float = 1) -> Value:
    """x + value * a * b."""
    return x + value * a * b


def addcdiv(x: Value, a: Value, b: Value, *, value: float = 1) -> Value:
    """x + value * a / b."""
    return x + value * a / b


def larger(x: Value, count: Operand, y: Value, other: Operand) -> tuple[Value, Operand]:
    """The larger of two maxima of several numbers, and the count of those numbers that equal it.

    Equal numbers share the gradient evenly, as in torch's maximum over an axis. `count` numbers
    equal x, and `other` equal y.
    """
    equal, most = call("eq", x, y), call("maximum", x, y)
    both = count + other
    total = where(equal, both, where(x > y, count, other))
    if count == other == 1:  # as `maximum` has it
        return most, total
    tied = call("logical_and", equal, call("abs", x) < math.inf)
    return where(tied, y + (x - y) * (count / both), most), total


aten = torch.ops.aten
Rule: TypeAlias = Callable[..., Any]

# Every overload of these is the operation of the same name.
_SAME = (
    *("neg", "abs", "sign", "exp", "expm1", "log", "log1p", "tanh", "sigmoid", "erf", "sqrt"),
    *("sin", "cos", "floor", "ceil", "round", "trunc", "maximum", "minimum", "lt", "le", "gt"),
    *("ge", "eq", "ne", "logical_not", "logical_and", "logical_or", "where", "mul"),
)


def _same(name: str) -> Rule:
    return lambda *operands: call(name, *operands)


def _add(x: Operand, y: Operand, alpha: float = 1) -> Value:
    return call("add", x, y if alpha == 1 else _scaled(y, alpha))


def _sub(x: Operand, y: Operand, alpha: float = 1) -> Value:
    return call("sub", x, y if alpha == 1 else _scaled(y, alpha))


def _scaled(x: Operand, by: float) -> Operand:
    return call("mul", x, by) if isinstance(x, Value) else x * by


def _div(x: Value, y: Operand, *, rounding_mode: str | None = None) -> Value:
    if rounding_mode == "floor":
        raise NotImplementedError
    quotient = call("div", x, y)
    return quotient if rounding_mode is None else call("trunc", quotient)


def _round(x: Value, *, decimals: int = 0) -> Value:
    if decimals:
        raise NotImplementedError
    return call("round", x)


def _masked_fill(x: Value, mask: Value, value: Operand) -> Value:
    return call("where", mask, value, x)


def _nan_to_num(
    x: Value, nan: float | None = None, high: float | None = None, low: float | None = None
) -> Value:
    if high is None or low is None:
        raise NotImplementedError  # they would depend on the dtype
    x = where(isnan(x), nan or 0.0, x)
    x = where(call("eq", x, math.inf), high, x)
    return where(call("eq", x, -math.inf), low, x)


def _on_masks(operation: str) -> Rule:
    """A bitwise operation, which programs have on masks only."""

    def rule(*operands: Operand) -> Value:
        if any(isinstance(o, Value) and o.kind != "mask" for o in operands):
            raise NotImplementedError
        return call(operation, *operands)

    return rule


def _xor(x: Value, y: Value) -> Value:
    return logical_xor(as_kind("mask", x), as_kind("mask", y))


def _fill(x: Value, value: Operand) -> Value:
    return value if isinstance(value, Value) else Value(x.builder, x.builder.constant(value))


# Formulas whose names are those of the operations.
_NAMED = (
    *(relu, threshold, threshold_backward, leaky_relu, leaky_relu_backward, elu, elu_backward),
    *(silu, silu_backward, softplus, softplus_backward, mish, mish_backward, gelu, gelu_backward),
    *(hardtanh, hardtanh_backward, hardsigmoid, hardsigmoid_backward, hardswish),
    *(hardswish_backward, softshrink, hardshrink, clamp, lerp, addcmul, addcdiv, isnan, isinf),
    larger,
)

RULES: dict[str, Rule] = {
    **{name: _same(name) for name in _SAME},
    **{formula.__name__: formula for formula in _NAMED},
    "add": _add,
    "sub": _sub,
    "rsub": lambda x, y, alpha=1: _sub(y, x, alpha),
    "div": _div,
    "true_divide": _div,
    "pow": power,
    "round": _round,
    "sgn": _same("sign"),
    "positive": lambda x: x,
    "reciprocal": lambda x: 1 / x,
    "rsqrt": lambda x: 1 / call("sqrt", x),
    "square": lambda x: x * x,
    "log2": lambda x: call("log", x) / math.log(2),
    "log10": lambda x: call("log", x) / math.log(10),
    "exp2": lambda x: call("pow", 2.0, x),
    "tan": lambda x: call("sin", x) / call("cos", x),
    "frac": lambda x: x - call("trunc", x),
    "fmax": lambda x, y: where(call("logical_or", call("ge", x, y), isnan(y)), x, y),
    "fmin": lambda x, y: where(call("logical_or", call("le", x, y), isnan(y)), x, y),
    "clamp_min": clamp,
    "clamp_max": clamp_above,
    "masked_fill": _masked_fill,
    "fill": _fill,
    "zero": lambda x: _fill(x, 0.0),
    "copy": lambda x, source, non_blocking=False: source,
    "nan_to_num": _nan_to_num,
    "logical_xor": _xor,
    "bitwise_not": _on_masks("logical_not"),
    "bitwise_and": _on_masks("logical_and"),
    "bitwise_or": _on_masks("logical_or"),
    "bitwise_xor": _xor,
    "tanh_backward": lambda g, y: g * (1 - y * y),
    "sigmoid_backward": lambda g, y: g * (y * (1 - y)),
    "_prelu_kernel": prelu,
    "_prelu_kernel_backward": prelu_backward,
    "celu": lambda x, alpha=1.0: elu(x, alpha, 1, 1 / alpha),
    "log_sigmoid_forward": logsigmoid,
    "log_sigmoid_backward": logsigmoid_backward,
    "softshrink_backward": shrink_backward,
    "hardshrink_backward": shrink_backward,
}
"""By the name of the operation without its overload; a rule takes values in place of tensors."""
