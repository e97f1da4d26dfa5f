"""Elementwise functions that a user might write in `pointwise`, by name."""

import functools
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

ONE: dict[str, Callable[[Tensor], Tensor]] = {
    **{
        name: getattr(torch, name)
        for name in (
            *("neg", "abs", "exp", "expm1", "log", "log1p", "tanh", "sigmoid", "erf", "sqrt"),
            *("rsqrt", "sin", "cos", "reciprocal", "square", "relu", "exp2", "log2", "log10"),
            *("positive", "tan"),
        )
    },
    **{
        name: getattr(F, name)
        for name in (
            *("logsigmoid", "leaky_relu", "elu", "selu", "celu", "gelu", "silu", "mish"),
            *("softplus", "hardtanh", "hardsigmoid", "hardswish", "relu6", "softsign"),
            *("tanhshrink", "softshrink"),
        )
    },
    "elu 0.3": functools.partial(F.elu, alpha=0.3),
    "celu 0.3": functools.partial(F.celu, alpha=0.3),
    "leaky_relu 0.3": functools.partial(F.leaky_relu, negative_slope=0.3),
    "gelu tanh": functools.partial(F.gelu, approximate="tanh"),
    "softplus 2": functools.partial(F.softplus, beta=2.0, threshold=3.0),
    "hardtanh 2": functools.partial(F.hardtanh, min_val=-0.5, max_val=2.0),
    "threshold": lambda a: F.threshold(a, 0.5, -1.0),
    "clamp": lambda a: a.clamp(-0.5, 1.0),
    "clamp low": lambda a: a.clamp(min=0.0),
    "clamp high": lambda a: a.clamp(max=0.5),
    "clamp_min": lambda a: a.clamp_min(0.5),
    "clamp_max": lambda a: a.clamp_max(0.5),
    "1 - a": lambda a: 1 - a,
    "2 / a": lambda a: 2 / a,
    "3 + a": lambda a: 3 + a,
    "a / 3": lambda a: a / 3,
    "a * 2 - 1": lambda a: a * 2 - 1,
    "rsub": lambda a: torch.rsub(a, 2.0, alpha=0.5),
    **{
        f"a ** {exponent}": functools.partial(torch.pow, exponent=exponent)
        for exponent in (2, 3, 4, 5, 0, 1, -1, -2, -3, 0.5, -0.5, 1.5, 2.0, 1 / 3)
    },
    "2 ** a": lambda a: 2**a,
    "a times its mask": lambda a: a * (a > 0.1),
    "a times the mask as a number": lambda a: a * (a > 0.1).to(a.dtype),
    "masked_fill": lambda a: a.masked_fill(a >= 1.0, 0.25),
    "where a number": lambda a: torch.where(a < 0.5, a * 2, 0.25),
    "nothing missing": lambda a: torch.where(a.isnan() | a.isinf(), 0.0, a),
    "only finite": lambda a: torch.where(a.isfinite(), a, 2 * a),
    "truth": lambda a: torch.where(a.bool(), a, 7.0),
    "masks": lambda a: torch.where(((a > 0) & ~(a > 1)) ^ (a <= -1) | (a == 3), a, -a),
    "logic": lambda a: torch.where(
        torch.logical_or(a > 2, torch.logical_and(a < 0, torch.logical_not(a < -1))), a, 1.0
    ),
    "xor": lambda a: torch.where(torch.logical_xor(a > 0, a > 1), a, 1.0),
    "mask of masks": lambda a: a * ((a > 0) == (a > 1)),
    "constants": lambda a: (
        (a + torch.tensor(0.5, dtype=a.dtype) * torch.ones_like(a) - torch.zeros_like(a))
        * torch.full_like(a, 2.0)
        + a.new_full((), 0.25)
        + a.new_zeros(a.shape)
        - torch.scalar_tensor(1.0, dtype=a.dtype)
    ),
    "in place": lambda a: (a + 1).mul_(2).add_(a, alpha=0.5).clamp_(-2, 2).tanh_(),
    "views": lambda a: (
        a.unsqueeze(0).expand(1, *a.shape).squeeze(0).clone().view(a.shape).contiguous()
    ),
    "a transpose": lambda a: (a.t() * 2).t(),
    "dropout in evaluation": lambda a: F.dropout(a, 0.5, training=False),
    "no gradient": lambda a: a * a.detach() + a,
}
"""Of one argument."""

ONE_WITH_JUMPS: dict[str, Callable[[Tensor], Tensor]] = {
    **{name: getattr(torch, name) for name in ("sign", "sgn", "floor", "ceil", "round", "trunc")},
    "frac": torch.frac,
    "hardshrink": F.hardshrink,
}
"""Of one argument, and not continuous."""

TWO: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "a + b": lambda a, b: a + b,
    "a - b": lambda a, b: a - b,
    "a * b": lambda a, b: a * b,
    "a / b": lambda a, b: a / b,
    "a ** b": lambda a, b: a**b,
    "a + 2 b": lambda a, b: torch.add(a, b, alpha=2),
    "a - 2 b": lambda a, b: torch.sub(a, b, alpha=2),
    "lerp 0.3": lambda a, b: torch.lerp(a, b, 0.3),
    "lerp 0.8": lambda a, b: torch.lerp(a, b, 0.8),
    "prelu": lambda a, b: torch._prelu_kernel(a, b),
    **{name: getattr(torch, name) for name in ("minimum", "maximum", "fmin", "fmax", "max", "min")},
    "a over b, cut": lambda a, b: torch.clamp(a, max=b),
    "a over b, lifted": lambda a, b: torch.clamp(a, min=b),
    "stack": lambda a, b: torch.stack([a, b]).tanh().unbind()[1] * a,
    "stack summed": lambda a, b: torch.stack([a, b, a * b]).sin().sum(0),
    "stack cut": lambda a, b: torch.stack([a, b])[1:].squeeze(0) + torch.stack([a, b], 1)[:, 0],
    "concatenated": lambda a, b: torch.mul(*torch.cat([a, b], -1).sigmoid().chunk(2, -1)),
    "split": lambda a, b: torch.sub(*torch.cat([a, b]).cos().split(a.shape[0])),
}
"""Of two arguments."""

TWO_WITH_JUMPS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "trunc of a / b": lambda a, b: torch.div(a, b, rounding_mode="trunc") + a,
    **{
        name: functools.partial(
            lambda a, b, compare: torch.where(compare(a, b), a * 2, b), compare=getattr(torch, name)
        )
        for name in ("lt", "le", "gt", "ge", "eq", "ne")
    },
}
"""Of two arguments, and not continuous."""

THREE: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "addcmul": lambda a, b, c: torch.addcmul(a, b, c, value=0.5),
    "addcdiv": lambda a, b, c: torch.addcdiv(a, b, c, value=0.5),
    "lerp": torch.lerp,
    "clamp": torch.clamp,  # which has no gradient where the bounds meet
    "clamp apart": lambda a, b, c: a.clamp(torch.minimum(b, c) - 0.1, torch.maximum(b, c)),
    "where": lambda a, b, c: torch.where(a > 0.3, b, c),
}
"""Of three arguments."""
