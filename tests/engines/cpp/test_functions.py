"""The vector layer against float64 and torch: every exponent, both signs, and what is special."""

import ctypes
import math
import platform
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from throughtime.engines.cpp.building import FLAGS, compile_source
from throughtime.engines.cpp.compiler import find_compiler

HARNESS = Path(__file__).with_name("functions_harness.cpp")
MANTISSAS = {np.float32: 96, np.float64: 12}
KINDS = [(dtype, width) for dtype in MANTISSAS for width in (64, 32, 16)]

Real = type[np.float32] | type[np.float64]
Array = np.ndarray


def sigmoid(x: Tensor) -> Tensor:
    """Without the overflow that makes torch's 0 where it is denormal."""
    e = torch.exp(-x.abs())
    return torch.where(x < 0, e, 1.0) / (1 + e)


def softplus(x: Tensor) -> Tensor:
    return torch.where(x > 20, x, torch.log1p(torch.exp(x)))


# Units in the last place by which float32 may miss the truth. Those of benchmarks/results/
# function_accuracy.json lie below.
ROUNDED: dict[str, tuple[Callable[[Tensor], Tensor], float]] = {
    "exp": (torch.exp, 2),
    "tanh": (torch.tanh, 2),
    "sigmoid": (sigmoid, 2),
    "log": (torch.log, 4),
    "log1p": (torch.log1p, 4),
    "expm1": (torch.expm1, 4),
    "erf": (torch.erf, 4),
    "softplus": (softplus, 4),
    "sin": (torch.sin, 2),  # that of the C library
    "cos": (torch.cos, 2),
    "sqrt": (torch.sqrt, 0.5),
}
EXACT = ("neg", "abs", "sign", "floor", "ceil", "round", "trunc", "logical_not")
PAIRS = {
    **{name: getattr(torch, name) for name in ("add", "sub", "mul", "div")},
    **{name: getattr(torch, name) for name in ("minimum", "maximum")},
    **{name: getattr(torch, name) for name in ("lt", "le", "gt", "ge", "eq", "ne")},
    **{name: getattr(torch, name) for name in ("logical_and", "logical_or")},
    "where": lambda a, b: torch.where(a < b, a, b),
}


class Built(NamedTuple):
    """The harness for one type and width."""

    dtype: Real
    path: Path
    library: ctypes.CDLL

    def __call__(self, name: str, *arrays: Array) -> Array:
        """A function of arrays of whole vectors."""
        result = np.empty_like(arrays[0])
        pointers = [ctypes.c_void_p(array.ctypes.data) for array in (*arrays, result)]
        getattr(self.library, f"{name}_of")(*pointers, ctypes.c_long(result.size))
        return result


@pytest.fixture(scope="module", params=KINDS, ids=lambda kind: f"{kind[0].__name__}-{kind[1]}")
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Built:
    """At all widths: where the CPU has no such vectors, the compiler splits them.

    The narrowest stand in for a CPU without fused multiply-add.
    """
    dtype, width = request.param
    compiler = find_compiler()
    if isinstance(compiler, str):
        pytest.skip(compiler)
    plain = width == 16 and platform.machine().lower() in ("x86_64", "amd64")
    flags = (*FLAGS, "-march=x86-64") if plain else compiler.flags
    real = {np.float32: "float", np.float64: "double"}[dtype]
    path = compile_source(
        HARNESS.read_text(encoding="utf-8"),
        {"REAL": real, "VECTOR_BYTES": width},
        (compiler.path, *flags),
        tmp_path_factory.mktemp("functions"),
        60.0,
    )
    assert isinstance(path, Path), path
    library = ctypes.CDLL(str(path))
    assert library.lanes() == width // np.dtype(dtype).itemsize
    return Built(dtype, path, library)


def specials(dtype: Real) -> Array:
    """What has a rule of its own, and what is close to a border between two cases."""
    info = np.finfo(dtype)
    borders = [1e-8, 0.1732867, 0.3465736, 0.25, 0.5, 1, 2, 4, 9, 10, 16.64, 18, 20, 87.3, 88.7228]
    borders += [89, 103.97, 104, 2**23, 2**24, 2**52, 709.78, 745.13, 1.5, 2.5]
    few = np.array([0, info.smallest_subnormal, info.tiny, info.max, np.inf, *borders], dtype)
    with np.errstate(over="ignore", under="ignore"):
        few = np.concatenate([few, np.nextafter(few, dtype(0)), np.nextafter(few, dtype(np.inf))])
    return np.concatenate([few, -few, np.array([np.nan], dtype)])


def samples(dtype: Real) -> Array:
    """Every exponent with both signs and many mantissas, the least and greatest among them.

    More of them where functions bend.
    """
    info = np.finfo(dtype)
    bits = np.dtype(f"u{info.bits // 8}").type
    generator = np.random.default_rng(0)
    count = MANTISSAS[dtype]
    top = 2**info.nmant
    some = generator.integers(0, top, (2 ** (info.nexp + 1), count), bits)
    some[:, :3] = (0, 1, top - 1)
    leading = np.arange(2 ** (info.nexp + 1), dtype=bits)[:, None] << bits(info.nmant)
    near = generator.uniform(-20, 20, 800 * count), generator.uniform(-105, 105, 800 * count)
    return whole(
        np.concatenate(
            [
                (leading | some).view(dtype).ravel(),
                specials(dtype),
                *(x.astype(dtype) for x in near),
            ]
        )
    )


def whole(values: Array) -> Array:
    """With some repeated, so that they fill vectors of any width."""
    return np.resize(values, math.ceil(values.size / 16) * 16)


def misses(result: Array, truth: Array) -> Array:
    """By how many units in the last place of the result's type it is off; inf for a wrong NaN."""
    info = np.finfo(result.dtype)
    most = 2.0**128 if info.bits == 32 else info.max  # what comes after the last of float32
    exponent = np.where(truth == 0, info.minexp, np.frexp(np.clip(truth, -most, most))[1])
    unit = np.maximum(exponent - 1 - info.nmant, info.minexp - info.nmant)
    with np.errstate(over="ignore", invalid="ignore"):
        off = np.clip(result.astype(np.float64), -most, most) - np.clip(truth, -most, most)
        off = np.ldexp(np.abs(off), -unit)
    wrong = np.isnan(result) != np.isnan(truth)
    return np.where(wrong, np.inf, np.nan_to_num(off, nan=0.0))


def same(result: Array, expected: Array) -> Array:
    """Where two arrays agree to the bit; one NaN is as good as another."""
    equal = (result == expected) & (np.signbit(result) == np.signbit(expected))
    return equal | (np.isnan(result) & np.isnan(expected))


@pytest.mark.parametrize("name", ROUNDED)
def test_misses_the_truth_by_few_units(built: Built, name: str) -> None:
    function, bound = ROUNDED[name]
    x = samples(built.dtype)
    truth = function(torch.from_numpy(x).double()).numpy()
    if built.dtype is np.float64:
        bound = max(bound, 4)  # torch's own are off by some of them
    off = misses(built(name, x), truth)
    worst = off.argmax()
    assert off[worst] <= bound, f"{off[worst]:.2f} at {x[worst]!r}: {built(name, x)[worst]!r}"


@pytest.mark.parametrize("name", [name for name in ROUNDED if name != "softplus"])
def test_special_values_are_those_of_torch(built: Built, name: str) -> None:
    zeros = np.array([0.0, -0.0, np.inf, -np.inf, np.nan] * 16, built.dtype)
    expected = getattr(torch, name)(torch.from_numpy(zeros)).numpy()
    assert same(built(name, zeros), expected).all(), name


def test_keeps_the_sign_and_size_of_the_smallest(built: Built) -> None:
    """f(x) = x there, for a function with slope 1 at 0."""
    tiny = np.finfo(built.dtype).smallest_subnormal * np.arange(1, 65).astype(built.dtype)
    for x in (tiny, -tiny):
        for name in ("expm1", "log1p", "tanh", "sin"):
            assert same(built(name, x), x).all(), name


@pytest.mark.parametrize("name", EXACT)
def test_exact_function_is_that_of_torch(built: Built, name: str) -> None:
    x = samples(built.dtype)
    expected = getattr(torch, name)(torch.from_numpy(x)).numpy().astype(built.dtype)
    assert same(built(name, x), expected).all()


def pairs(dtype: Real) -> tuple[Array, Array]:
    """Every special value with every other, and random ones."""
    few = specials(dtype)
    left, right = (grid.ravel() for grid in np.meshgrid(few, few))
    some = np.random.default_rng(1).normal(0, 10, (2, 5000)).astype(dtype)
    return whole(np.concatenate([left, some[0]])), whole(np.concatenate([right, some[1]]))


@pytest.mark.parametrize("name", PAIRS)
def test_exact_function_of_two_is_that_of_torch(built: Built, name: str) -> None:
    x, y = pairs(built.dtype)
    expected = PAIRS[name](torch.from_numpy(x), torch.from_numpy(y)).numpy()
    result = built(name, x, y)
    equal = same(result, expected.astype(built.dtype))
    if name in ("minimum", "maximum"):  # of 0 and -0, torch takes the one or the other
        equal |= (result == 0) & (expected == 0)
    assert equal.all(), (x[~equal][:4], y[~equal][:4], result[~equal][:4])


def test_pow_is_that_of_torch(built: Built) -> None:
    x, y = pairs(built.dtype)
    truth = torch.pow(*(torch.from_numpy(part).double() for part in (x, y))).numpy()
    assert misses(built("pow", x, y), truth).max() <= 4


def test_broadcast_fills_all_lanes(built: Built) -> None:
    lanes = built.library.lanes()
    for value in (1.5, -0.0, math.inf, math.nan):
        result = np.zeros(lanes, built.dtype)
        source = np.array([value], built.dtype)
        built.library.broadcast_of(
            ctypes.c_void_p(source.ctypes.data), ctypes.c_void_p(result.ctypes.data)
        )
        assert same(result, np.full(lanes, value, built.dtype)).all()


def test_load_and_store_take_as_many_lanes_as_told(built: Built) -> None:
    lanes = built.library.lanes()
    values = np.arange(1, lanes + 1, dtype=built.dtype)

    def run(name: str, source: Array, start: int, n: int) -> Array:
        result = np.full(3 * lanes, np.nan, built.dtype)
        target = result[start:]
        getattr(built.library, name)(
            ctypes.c_void_p(source.ctypes.data),
            ctypes.c_void_p(target.ctypes.data),
            ctypes.c_long(n),
        )
        return result

    for n in range(lanes + 1):
        for start in (0, 1, lanes - 1):  # aligned and not
            surrounded = np.full(3 * lanes, np.nan, built.dtype)
            surrounded[start : start + n] = values[:n]
            loaded = run("load_of", surrounded[start:], 0, n)[:lanes]
            assert same(loaded, np.where(np.arange(lanes) < n, values, 0)).all()
            assert same(run("store_of", values, start, n), surrounded).all()


def test_load_and_store_touch_no_memory_beyond(built: Built) -> None:
    """In a process of its own, which would not survive it."""
    script = "import ctypes, sys; sys.exit(ctypes.CDLL(sys.argv[1]).borders())"
    done = subprocess.run([sys.executable, "-c", script, str(built.path)], check=False)
    assert done.returncode == 0
