"""One tanh unit with one weight: its fixed points, its latching bound, its survival under noise."""

import dataclasses
import itertools
import math
from collections.abc import Callable
from typing import Literal, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from throughtime.core.errors import ConfigurationError, UnknownNameError
from throughtime.instruments.scalar_maps import (
    Bifurcation,
    ScalarFixedPoints,
    ScalarMap,
    gathered,
    stability_of,
)
from throughtime.results.record import Record


def one_unit_map(weight: float, input: float = 0.0) -> ScalarMap:
    """The map of one unit: a -> w tanh(a) + u.

    a is the preactivation, as in Bengio et al. (1994); the output is h = tanh(a), whose map
    h -> tanh(w h + u) has the same slopes at its fixed points.

    Arguments:
        weight: w.
        input: u, the same at every step.

    Returns:
        A function of tensors.

    Example:
        >>> one_unit_map(2.0, 0.5)(torch.zeros(2)).tolist()
        [0.5, 0.5]
    """
    return lambda a: weight * torch.tanh(a) + input


def one_unit_fixed_points(weight: float, input: float = 0.0) -> ScalarFixedPoints:
    """All fixed points of one tanh unit under a constant input.

        a = w tanh(a) + u,   slope w / cosh(a)^2

    g(a) = w tanh(a) + u - a falls everywhere if w <= 1: one point. If w > 1 it rises between its
    critical points -+arcosh(sqrt(w)) and falls outside: one point, three, or two where it touches
    zero at a critical point. Each piece is bisected to neighbouring numbers.

    Arguments:
        weight: w, any finite number.
        input: u, any finite number.

    Returns:
        One to three preactivations a, from left to right. Tangent points have slope 1 and are
        marginal.

    Raises:
        ConfigurationError: a number that is not finite.

    Example:
        >>> found = one_unit_fixed_points(2.0)
        >>> [round(a, 6) for a in found.points.tolist()], found.kinds
        ([-1.915008, 0.0, 1.915008], ('sink', 'source', 'sink'))
        >>> one_unit_fixed_points(2.0, input=0.6).kinds  # beyond the latching bound 0.5328
        ('sink',)

    Source:
        Bengio, Simard and Frasconi, "Learning long-term dependencies with gradient descent is
        difficult", IEEE Transactions on Neural Networks 5(2), 1994.
    """
    for name, value in (("weight", weight), ("input", input)):
        if not math.isfinite(value):
            raise ConfigurationError(name, got=value, expected="a finite number")

    def g(a: float) -> float:
        return weight * math.tanh(a) + input - a

    # |a - u| <= |w| at any fixed point; a little wider, so that the ends have opposite signs
    reach = abs(weight) * (1 + 1e-12) + 1e-12 * (1 + abs(input))
    edges = [input - reach, input + reach]
    points: list[float] = []
    if weight > 1:
        turn = math.atanh(math.sqrt((weight - 1) / weight))
        rounding = 4 * 2.0**-52 * (weight + abs(input) + turn)
        if abs(g(turn)) <= rounding or abs(g(-turn)) <= rounding:
            points = [side for side in (-turn, turn) if abs(g(side)) <= rounding]
        edges = [edges[0], *sorted((-turn, turn)), edges[1]]
    touching = set(points)
    for low, high in itertools.pairwise(edges):
        if low >= high:
            continue
        start = 0.0 if low in touching else g(low)
        end = 0.0 if high in touching else g(high)
        if start * end < 0:
            points.append(_root(g, low, high))
    points.sort()
    slopes = [weight / math.cosh(a) ** 2 if abs(a) < 350 else 0.0 for a in points]
    return ScalarFixedPoints(
        torch.tensor(points, dtype=torch.float64, device="cpu"),
        torch.tensor(slopes, dtype=torch.float64, device="cpu"),
        tuple(stability_of(slope) for slope in slopes),
    )


def robust_latching_bound(weight: float) -> float:
    """The largest input, in absolute value, that can never flip the sign that a unit holds.

        u*(w) = sqrt(w (w - 1)) - artanh(sqrt(1 - 1/w)),   w > 1

    For |u| < u* the unit a_t = w tanh(a_{t-1}) + u has three fixed points; at u* the held one meets
    the unstable one at tanh(a)^2 = 1 - 1/w, and vanishes beyond. Inputs that stay below u* keep the
    sign for ever; one above u* that stays long enough changes it: that is how a unit is written.

    Arguments:
        weight: w, above 1.

    Returns:
        u*, above 0, to a few units in the last place even where w is near 1.

    Raises:
        ConfigurationError: a weight of 1 or less, which holds nothing.

    Example:
        >>> [round(robust_latching_bound(w), 4) for w in (1.25, 1.5, 2.0, 4.0)]
        [0.0778, 0.2075, 0.5328, 2.1471]
    """
    if not 1 < weight < math.inf:
        raise ConfigurationError(
            "weight",
            got=weight,
            expected="a finite number above 1",
            fix="A unit with a weight of 1 or less has one fixed point and cannot latch.",
        )
    t = math.sqrt((weight - 1) / weight)
    if t > 0.3:
        return math.sqrt(weight * (weight - 1)) - math.atanh(t)
    # the two terms nearly cancel: t / (1 - t^2) - artanh(t), as a series in t
    return sum(2 * k / (2 * k + 1) * t ** (2 * k + 1) for k in range(20, 0, -1))


def one_unit_bifurcation(
    values: Float[Tensor, " values"],
    *,
    weight: float | None = None,
    input: float | None = None,
) -> Bifurcation:
    """Fixed points of one tanh unit by its weight, or by its input.

    Arguments:
        values: values of the other one: of the weight if the input is, of the input if the weight
            is.
        weight: w, if the input is swept: two folds at u = -+u*(w) for w > 1.
        input: u, if the weight is swept: a pitchfork at w = 1 for u = 0.

    Returns:
        One row for each fixed point at each value.

    Raises:
        ConfigurationError: both or neither of weight and input given; numbers that are not finite.

    Example:
        >>> weights = torch.tensor([0.5, 1.0, 1.5])
        >>> found = one_unit_bifurcation(weights, input=0.0)
        >>> found.counts(), found.kinds
        ({0.5: 1, 1.0: 1, 1.5: 3}, ('sink', 'marginal', 'sink', 'source', 'sink'))
    """
    if weight is not None and input is None:
        return gathered(values, lambda u: one_unit_fixed_points(weight, u))
    if input is not None and weight is None:
        return gathered(values, lambda w: one_unit_fixed_points(w, input))
    raise ConfigurationError(
        "one_unit_bifurcation",
        got="both weight and input" if weight is not None else "neither weight nor input",
        expected="one of them; the other is swept",
    )


def _root(g: Callable[[float], float], low: float, high: float) -> float:
    """The root of a monotone function between points of opposite signs, to the last bit."""
    rising = g(low) < 0
    while low < (middle := low + (high - low) / 2) < high:
        value = g(middle)
        if value == 0:
            return middle
        low, high = (middle, high) if (value < 0) == rising else (low, middle)
    return low if abs(g(low)) <= abs(g(high)) else high


LatchNoise: TypeAlias = Literal["gaussian", "uniform", "constant"]
"""N(0, size^2) at every step; uniform in [-size, size]; -size against the held sign at every step,
the worst that a bounded input can do."""


@dataclasses.dataclass(frozen=True, eq=False)
class LatchSurvival(Record):
    """The part of the runs of one unit that still hold their sign. In float64, on the CPU.

    Attributes:
        weight: w.
        noise: the noise that was added at every step.
        size: standard deviation of Gaussian noise, or the bound of the others.
        runs: number of runs; 1 under a constant input, where all are alike.
        kept: share of runs whose sign after each step is the first one; it may have come back.
        held: share of runs whose sign has never changed up to each step.
    """

    weight: float
    noise: LatchNoise
    size: float
    runs: int
    kept: Float[Tensor, " steps"]
    held: Float[Tensor, " steps"]

    @property
    def standard_error(self) -> Float[Tensor, " steps"]:
        """Standard error of `kept`: sqrt(p (1 - p) / runs)."""
        return (self.kept * (1 - self.kept) / self.runs).sqrt()


def latch_survival(
    weight: float,
    noise: LatchNoise,
    size: float,
    steps: int,
    *,
    start: float = 1.5,
    runs: int = 20_000,
    seed: int = 0,
) -> LatchSurvival:
    """Simulate a_t = w tanh(a_{t-1}) + u_t and count the runs that keep the sign of a_0.

    Noise bounded by `robust_latching_bound(w)` never flips the sign of a unit that starts beyond
    its unstable point; Gaussian noise, which has no bound, flips it sooner or later.

    Arguments:
        weight: w.
        noise: kind of u_t; see `LatchNoise`.
        size: standard deviation, or bound, zero or more.
        steps: number of steps, at least 1.
        start: a_0, not 0.
        runs: number of runs, at least 1.
        seed: seed of the noise.

    Returns:
        Shares of runs after each step.

    Raises:
        ConfigurationError: an option out of range.
        UnknownNameError: an unknown kind of noise.

    Example:
        >>> survival = latch_survival(1.5, "gaussian", 0.2, 20, runs=1000)
        >>> bool(survival.kept[-1] > 0.99)
        True

    Source:
        Bengio, Simard and Frasconi, "Learning long-term dependencies with gradient descent is
        difficult", IEEE Transactions on Neural Networks 5(2), 1994. The starting value of 1.5 is
        our choice.
    """
    if noise not in ("gaussian", "uniform", "constant"):
        raise UnknownNameError("noise", str(noise), ("gaussian", "uniform", "constant"))
    if not size >= 0:
        raise ConfigurationError("size", got=size, expected="zero or more")
    for name, count in (("steps", steps), ("runs", runs)):
        if count < 1:
            raise ConfigurationError(name, got=count, expected="at least 1")
    if start == 0 or not math.isfinite(start) or not math.isfinite(weight):
        raise ConfigurationError(
            "start and weight", got=(start, weight), expected="finite, and a start with a sign"
        )
    generator = torch.Generator("cpu").manual_seed(seed)
    runs = 1 if noise == "constant" else runs
    sign = math.copysign(1.0, start)
    a = torch.full((runs,), float(start), dtype=torch.float64, device="cpu")
    never = torch.ones(runs, dtype=torch.bool, device="cpu")
    kept = torch.empty(steps, dtype=torch.float64, device="cpu")
    held = torch.empty_like(kept)
    for t in range(steps):
        if noise == "gaussian":
            u = size * torch.randn(runs, generator=generator, dtype=torch.float64, device="cpu")
        elif noise == "uniform":
            u = torch.rand(runs, generator=generator, dtype=torch.float64, device="cpu")
            u = size * (2 * u - 1)
        else:
            u = torch.full_like(a, -sign * size)
        a = weight * torch.tanh(a) + u
        same = a * sign > 0
        never &= same
        kept[t], held[t] = same.double().mean(), never.double().mean()
    return LatchSurvival(float(weight), noise, float(size), runs, kept, held)
