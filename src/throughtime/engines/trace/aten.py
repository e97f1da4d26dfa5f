"""Rules: each of torch's elementwise operations in terms of a program's."""

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import torch

from throughtime.engines.trace import formulas as f
from throughtime.engines.trace.expressions import Operand, Value, as_kind, call

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
    x = f.where(f.isnan(x), nan or 0.0, x)
    x = f.where(call("eq", x, math.inf), high, x)
    return f.where(call("eq", x, -math.inf), low, x)


def _on_masks(operation: str) -> Rule:
    """A bitwise operation, which programs have on masks only."""

    def rule(*operands: Operand) -> Value:
        if any(isinstance(o, Value) and o.kind != "mask" for o in operands):
            raise NotImplementedError
        return call(operation, *operands)

    return rule


def _xor(x: Value, y: Value) -> Value:
    return f.logical_xor(as_kind("mask", x), as_kind("mask", y))


def _fill(x: Value, value: Operand) -> Value:
    return value if isinstance(value, Value) else Value(x.builder, x.builder.constant(value))


RULES: dict[str, Rule] = {
    **{name: _same(name) for name in _SAME},
    "add": _add,
    "sub": _sub,
    "rsub": lambda x, y, alpha=1: _sub(y, x, alpha),
    "div": _div,
    "true_divide": _div,
    "pow": f.power,
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
    "fmax": lambda x, y: f.where(call("logical_or", call("ge", x, y), f.isnan(y)), x, y),
    "fmin": lambda x, y: f.where(call("logical_or", call("le", x, y), f.isnan(y)), x, y),
    "clamp": f.clamp,
    "clamp_min": f.clamp,
    "clamp_max": f.clamp_above,
    "lerp": f.lerp,
    "addcmul": f.addcmul,
    "addcdiv": f.addcdiv,
    "masked_fill": _masked_fill,
    "fill": _fill,
    "zero": lambda x: _fill(x, 0.0),
    "copy": lambda x, source, non_blocking=False: source,
    "isnan": f.isnan,
    "isinf": f.isinf,
    "nan_to_num": _nan_to_num,
    "logical_xor": _xor,
    "bitwise_not": _on_masks("logical_not"),
    "bitwise_and": _on_masks("logical_and"),
    "bitwise_or": _on_masks("logical_or"),
    "bitwise_xor": _xor,
    "tanh_backward": lambda g, y: g * (1 - y * y),
    "sigmoid_backward": lambda g, y: g * (y * (1 - y)),
    "relu": f.relu,
    "threshold": f.threshold,
    "threshold_backward": f.threshold_backward,
    "leaky_relu": f.leaky_relu,
    "leaky_relu_backward": f.leaky_relu_backward,
    "_prelu_kernel": f.prelu,
    "_prelu_kernel_backward": f.prelu_backward,
    "elu": f.elu,
    "elu_backward": f.elu_backward,
    "celu": lambda x, alpha=1.0: f.elu(x, alpha, 1, 1 / alpha),
    "silu": f.silu,
    "silu_backward": f.silu_backward,
    "softplus": f.softplus,
    "softplus_backward": f.softplus_backward,
    "mish": f.mish,
    "mish_backward": f.mish_backward,
    "log_sigmoid_forward": f.logsigmoid,
    "log_sigmoid_backward": f.logsigmoid_backward,
    "gelu": f.gelu,
    "gelu_backward": f.gelu_backward,
    "hardtanh": f.hardtanh,
    "hardtanh_backward": f.hardtanh_backward,
    "hardsigmoid": f.hardsigmoid,
    "hardsigmoid_backward": f.hardsigmoid_backward,
    "hardswish": f.hardswish,
    "hardswish_backward": f.hardswish_backward,
    "softshrink": f.softshrink,
    "softshrink_backward": f.shrink_backward,
    "hardshrink": f.hardshrink,
    "hardshrink_backward": f.shrink_backward,
}
"""By the name of the operation without its overload; a rule takes values in place of tensors."""
