"""Random cells: a hypothesis strategy of recipes, and the cell that a recipe says."""

import dataclasses
from typing import Any

import torch
from engines.trace import pointwise_functions as functions
from hypothesis import strategies as st
from torch import nn

import throughtime as tt

Tree = tuple[Any, ...]
"""("tanh", tree), ("a + b", tree, tree), a number (0.5,), or a leaf: ("x", 0), ("memory", 1) ..."""

# Those that leave numbers in a range in which others are finite too.
_TAME_ONE = (
    *("neg", "abs", "tanh", "sigmoid", "erf", "sin", "cos", "relu", "logsigmoid", "leaky_relu"),
    *("elu", "selu", "celu", "gelu", "silu", "mish", "softplus", "hardtanh", "hardsigmoid"),
    *("hardswish", "relu6", "softsign", "tanhshrink", "softshrink", "celu 0.3", "elu 0.3"),
    *("leaky_relu 0.3", "gelu tanh", "softplus 2", "hardtanh 2", "clamp", "clamp low"),
    *("clamp high", "clamp_min", "clamp_max", "1 - a", "3 + a", "a / 3", "a * 2 - 1", "rsub"),
    *("a ** 2", "a ** 3", "only finite", "constants", "in place", "views", "no gradient"),
)
_TAME_TWO = (
    *("a + b", "a - b", "a * b", "a + 2 b", "a - 2 b", "lerp 0.3", "lerp 0.8", "prelu"),
    *("minimum", "maximum", "fmin", "fmax", "a over b, cut", "a over b, lifted", "stack"),
    *("stack summed", "concatenated"),
)
_WILD_ONE = (
    *("exp", "expm1", "log", "log1p", "sqrt", "rsqrt", "reciprocal", "2 / a", "a ** -2"),
    *("a ** 0.5", "a ** -0.5", "a ** 1.5", "2 ** a", "tan", "threshold", "masked_fill"),
    *("where a number", "masks", "a times its mask", "a times the mask as a number"),
    *functions.ONE_WITH_JUMPS,
)
_WILD_TWO = ("a / b", "a ** b", *functions.TWO_WITH_JUMPS)
_THREE = ("addcmul", "lerp", "clamp apart")


@dataclasses.dataclass(frozen=True)
class Recipe:
    """All that makes a random cell; equal recipes make equal cells."""

    gates: int
    memories: tuple[str, ...]
    lags: tuple[int, ...]
    streams: tuple[str, ...]
    results: tuple[Tree, ...]


class RandomCell(tt.GatedCell):
    """The cell of a recipe, with unit parameters alpha (hidden,) and beta (2, hidden).

    There is also a buffer scale, one number, and a buffer shift (hidden,).
    """

    gates = 1

    def __init__(self, recipe, input_size, hidden_size, **options):
        self.gates, self.memories = recipe.gates, recipe.memories
        self.streams, self.recipe = recipe.streams, recipe
        super().__init__(input_size, hidden_size, lags=recipe.lags, **options)
        like = self.weight_ih
        self.alpha = nn.Parameter(torch.linspace(-1.03, 0.97, hidden_size).to(like))
        self.beta = nn.Parameter(torch.linspace(-1.03, 0.97, 2 * hidden_size).view(2, -1).to(like))
        self.register_buffer("scale", torch.tensor(0.7).to(like))
        self.register_buffer("shift", torch.linspace(1.01, -0.98, hidden_size).to(like))

    def pointwise(self, x, u, state, streams=()):
        """What the recipe says; several uses of one tree are computed each."""
        found = tuple(
            _whole(self._value(tree, x, u, state, streams), x[0]) for tree in self.recipe.results
        )
        return found if self.memories else found[0]

    def _value(self, tree, x, u, state, streams):
        match tree:
            case (float(number),):
                return number
            case ("x", i):
                return x[i % len(x)]
            case ("u", i):
                return u[i % len(u)] if u else x[i % len(x)]
            case ("x + u", i):
                return x[i % len(x)] + u[i % len(x)] if u else x[i % len(x)]
            case ("h",):
                return state.h
            case ("memory", i):
                return state[i % (1 + len(self.memories))]
            case ("past", i):
                past = getattr(state, "past", (state.h,))
                return past[i % len(past)]
            case ("stream", i):
                return streams[i % len(streams)] if streams else state.h
            case ("beta", i):
                return self.beta[i]
            case ("alpha" | "scale" | "shift" as name,):
                return getattr(self, name)
        name, *branches = tree
        values = [self._value(branch, x, u, state, streams) for branch in branches]
        values = [_whole(value, x[0]) for value in values]
        table = _TABLES[len(values)]
        return table[name](*values)

    def draw_streams(self, steps, *, training, dtype, generator):
        """A mask for each unit, and a number for each sequence."""
        shape = (*steps.shape, self.hidden_size)
        rate = torch.full(shape, 0.25, dtype=dtype)
        keep = torch.bernoulli(rate, generator=generator) if training else rate
        return (keep, (steps % 3).to(dtype)[..., None] - 1)[: len(self.streams)]


_TABLES = {
    1: functions.ONE | functions.ONE_WITH_JUMPS,
    2: functions.TWO | functions.TWO_WITH_JUMPS,
    3: functions.THREE,
}


def _whole(value, like):
    """A value of (batch, hidden): some functions take no less."""
    if isinstance(value, float):
        return torch.full_like(like, value)
    return value if value.shape == like.shape else value.expand(like.shape)


def trees(wild: bool) -> st.SearchStrategy[Tree]:
    """Expressions of a few operations; wild ones may jump or overflow."""
    index = st.integers(0, 2)
    leaves = st.one_of(
        st.tuples(st.sampled_from(["x", "u", "x + u", "x + u", "memory", "past", "stream"]), index),
        st.tuples(st.just("beta"), st.integers(0, 1)),
        st.sampled_from([("h",), ("alpha",), ("scale",), ("shift",), (0.5,), (-1.25,), (2.0,)]),
    )
    one = st.sampled_from(_TAME_ONE + (_WILD_ONE if wild else ()))
    two = st.sampled_from(_TAME_TWO + (_WILD_TWO if wild else ()))
    three = st.sampled_from(_THREE)

    def grown(inner: st.SearchStrategy[Tree]) -> st.SearchStrategy[Tree]:
        return st.one_of(
            st.tuples(one, inner), st.tuples(two, inner, inner), st.tuples(three, *[inner] * 3)
        )

    return st.recursive(leaves, grown, max_leaves=8)


@st.composite
def recipes(draw: st.DrawFn, wild: bool = False) -> Recipe:
    """Cells with up to 3 gates and 2 memories, with lags and streams or without."""
    memories = draw(st.sampled_from([(), ("c",), ("c", "d")]))
    # the gates' sums lead, so that something depends on what is fed in
    results = [
        ("a * b", ("tanh", ("x + u", i)), draw(trees(wild))) for i in range(1 + len(memories))
    ]
    return Recipe(
        gates=draw(st.integers(1, 3)),
        memories=memories,
        lags=draw(st.sampled_from([(1,), (1,), (1, 3), (2,), ()])),
        streams=draw(st.sampled_from([(), ("keep",), ("keep", "tick")])),
        results=tuple(results),
    )
