"""Maps of a line to itself: fixed points, cycles, cobwebs, phase lines and bifurcations."""

import dataclasses
from collections.abc import Callable
from typing import Literal, TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor

from throughtime.core.errors import ConfigurationError
from throughtime.results.record import Record

ScalarMap: TypeAlias = Callable[[Tensor], Tensor]
"""x -> f(x), elementwise on a float64 tensor of any shape, differentiable by autograd."""

ScalarStability: TypeAlias = Literal["sink", "source", "marginal"]
"""|slope| below 1, above 1, or 1 within rounding, where the slope does not tell."""


@dataclasses.dataclass(frozen=True, eq=False)
class ScalarFixedPoints(Record):
    """Fixed points x = f(x) of a map of a line, from left to right.

    Attributes:
        points: x.
        slopes: f'(x): by how much a deviation is multiplied at each step.
        kinds: stability of each.
    """

    points: Float[Tensor, " points"]
    slopes: Float[Tensor, " points"]
    kinds: tuple[ScalarStability, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class Cycles(Record):
    """Cycles of a map of a line: x_1 -> x_2 -> ... -> x_period -> x_1.

    Attributes:
        points: each cycle in the order of time, from its smallest point; cycles by that point.
        multipliers: product of the slopes along each cycle.
        kinds: stability of each, by |multiplier|.
    """

    points: Float[Tensor, "cycles period"]
    multipliers: Float[Tensor, " cycles"]
    kinds: tuple[ScalarStability, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class PhaseLine(Record):
    """The directions in which a map moves a line: one for each stretch between fixed points.

    Attributes:
        fixed: the fixed points within the line.
        edges: ends of the stretches: the line's lower end, the fixed points, its upper end.
        directions: sign of f(x) - x on each stretch: 1 moves up, -1 down, 0 not at all.
    """

    fixed: ScalarFixedPoints
    edges: Float[Tensor, " edges"]
    directions: Int[Tensor, " stretches"]


@dataclasses.dataclass(frozen=True, eq=False)
class Bifurcation(Record):
    """Fixed points of a family of maps, one row for each point of each map.

    Attributes:
        parameter: the value at which each row's map was taken.
        points: the fixed points.
        slopes: f'(x) there.
        kinds: stability of each.
    """

    parameter: Float[Tensor, " rows"]
    points: Float[Tensor, " rows"]
    slopes: Float[Tensor, " rows"]
    kinds: tuple[ScalarStability, ...]

    def counts(self) -> dict[float, int]:
        """Return the number of fixed points by parameter, for those that have any."""
        values, counts = self.parameter.unique(return_counts=True)
        return dict(zip(values.tolist(), counts.tolist(), strict=True))


def scalar_fixed_points(
    f: ScalarMap, lower: float, upper: float, *, resolution: int = 4097
) -> ScalarFixedPoints:
    """Find the fixed points of a map within an interval.

    g(x) = f(x) - x is cut where g' = f' - 1 changes sign; on each piece g is monotone and has at
    most one root, which bisection finds to the last bit. A piece's end where g vanishes within
    rounding is a tangent root, of slope 1. Exact but for critical points nearer to each other than
    the grid's spacing.

    Arguments:
        f: the map.
        lower: end of the interval.
        upper: end of the interval, above `lower`.
        resolution: grid points on which sign changes of g' are looked for, at least 2.

    Returns:
        The fixed points, by position. f may jump, and be infinite or NaN on parts of the interval.

    Raises:
        ConfigurationError: an empty interval, or a resolution below 2.

    Example:
        >>> found = scalar_fixed_points(lambda x: x**2 + 0.15, -2, 2)
        >>> [round(x, 5) for x in found.points.tolist()], found.kinds
        ([0.18377, 0.81623], ('sink', 'source'))
    """
    if not lower < upper:
        raise ConfigurationError(
            "interval", got=f"[{lower}, {upper}]", expected="lower below upper, both finite"
        )
    if resolution < 2:
        raise ConfigurationError("resolution", got=resolution, expected="at least 2")
    grid = torch.linspace(lower, upper, resolution, dtype=torch.float64, device="cpu")
    slope = _slope(f, grid) - 1
    critical = _bisect(lambda x: _slope(f, x) - 1, grid, slope)
    edges = torch.cat([grid, critical]).unique()
    g = _value(f, edges) - edges
    rounding = 8 * torch.finfo(torch.float64).eps * edges.abs().clamp_min(0.1)
    tangent = g.abs() <= rounding
    tangent &= torch.isin(edges, critical)
    roots = _bisect(lambda x: _value(f, x) - x, edges, torch.where(tangent, 0.0, g))
    # a jump or a pole changes the sign of g without a root
    roots = roots[(_value(f, roots) - roots).abs() <= 1e-9 * (1 + roots.abs())]
    slopes = _slope(f, roots)
    return ScalarFixedPoints(roots, slopes, _kinds(slopes))


def scalar_cycles(
    f: ScalarMap, period: int, lower: float, upper: float, *, resolution: int = 65537
) -> Cycles:
    """Find the cycles of a period that lie within an interval: roots of f(f(...(x))) = x.

    Arguments:
        f: the map.
        period: the least number of steps after which the cycle's points return, at least 1.
        lower: end of the interval.
        upper: end of the interval, above `lower`.
        resolution: grid points, `scalar_fixed_points` explains them, for the iterated map, whose
            turns are many more.

    Returns:
        Each cycle once, without those of a shorter period.

    Raises:
        ConfigurationError: as `scalar_fixed_points`, or a period below 1.

    Example:
        >>> found = scalar_cycles(lambda x: 3.5 * x * (1 - x), 4, 0, 1)
        >>> [round(x, 6) for x in found.points[0].tolist()], found.kinds
        ([0.38282, 0.826941, 0.500884, 0.874997], ('sink',))
    """
    if period < 1:
        raise ConfigurationError("period", got=period, expected="at least 1")

    def iterated(x: Tensor) -> Tensor:
        for _ in range(period):
            x = f(x)
        return x

    points = scalar_fixed_points(iterated, lower, upper, resolution=resolution).points
    orbits = [points]
    for _ in range(period - 1):
        orbits.append(_value(f, orbits[-1]))
    orbit = torch.stack(orbits, 1)
    near = 1e-6 * (1 + orbit.abs().amax(1, keepdim=True))
    returned = ((orbit[:, 1:] - orbit[:, :1]).abs() <= near).any(1)
    # every cycle is seen from each of its points: keep the view from the smallest
    first = (orbit[:, :1] <= orbit + near).all(1) & ~returned
    orbit = orbit[first]
    multipliers = _slope(f, orbit).prod(1)
    return Cycles(orbit, multipliers, _kinds(multipliers))


def cobweb(f: ScalarMap, start: float, steps: int) -> Float[Tensor, "points 2"]:
    """The path of a cobweb diagram: up or down to the curve, then across to the diagonal.

        (x_0, x_0), (x_0, x_1), (x_1, x_1), (x_1, x_2), ...        x_{t+1} = f(x_t)

    Arguments:
        f: the map.
        start: x_0.
        steps: number of steps, at least 0.

    Returns:
        2 steps + 1 points.

    Raises:
        ConfigurationError: a negative number of steps.

    Example:
        >>> cobweb(lambda x: x / 2, 1.0, 2).tolist()
        [[1.0, 1.0], [1.0, 0.5], [0.5, 0.5], [0.5, 0.25], [0.25, 0.25]]
    """
    if steps < 0:
        raise ConfigurationError("steps", got=steps, expected="at least 0")
    x = torch.tensor(start, dtype=torch.float64, device="cpu")
    path = [torch.stack([x, x])]
    for _ in range(steps):
        moved = _value(f, x)
        path += [torch.stack([x, moved]), torch.stack([moved, moved])]
        x = moved
    return torch.stack(path)


def phase_line(f: ScalarMap, lower: float, upper: float, *, resolution: int = 4097) -> PhaseLine:
    """The directions in which a map moves the points of an interval.

    Arguments:
        f: the map.
        lower: end of the interval.
        upper: end of the interval, above `lower`.
        resolution: grid points; `scalar_fixed_points` explains them.

    Returns:
        The fixed points and one direction for each stretch between them.

    Raises:
        ConfigurationError: as `scalar_fixed_points`.

    Example:
        >>> line = phase_line(lambda x: torch.tanh(2 * x), -2, 2)
        >>> line.fixed.kinds, line.directions.tolist()
        (('sink', 'source', 'sink'), [1, -1, 1, -1])
    """
    fixed = scalar_fixed_points(f, lower, upper, resolution=resolution)
    ends = torch.tensor([lower, upper], dtype=torch.float64, device="cpu")
    edges = torch.cat([ends[:1], fixed.points, ends[1:]])
    middle = (edges[1:] + edges[:-1]) / 2
    moved = _value(f, middle) - middle
    return PhaseLine(fixed, edges, moved.nan_to_num(0.0).sign().to(torch.int64))


def bifurcation(
    family: Callable[[Tensor, float], Tensor],
    values: Float[Tensor, " values"],
    lower: float,
    upper: float,
    *,
    resolution: int = 1025,
) -> Bifurcation:
    """The fixed points of a family of maps by its parameter.

    Arguments:
        family: x, parameter -> f(x), as a `ScalarMap` for each parameter.
        values: values of the parameter.
        lower: end of the interval of x.
        upper: end of the interval of x, above `lower`.
        resolution: grid points; `scalar_fixed_points` explains them.

    Returns:
        One row for each fixed point of each map.

    Raises:
        ConfigurationError: as `scalar_fixed_points`.

    Example:
        >>> values = torch.tensor([0.5, 1.5], dtype=torch.float64)
        >>> bifurcation(lambda x, w: torch.tanh(w * x), values, -2, 2).counts()
        {0.5: 1, 1.5: 3}
    """
    return gathered(
        values,
        lambda value: scalar_fixed_points(
            lambda x: family(x, value), lower, upper, resolution=resolution
        ),
    )


def gathered(
    values: Float[Tensor, " values"], find: Callable[[float], ScalarFixedPoints]
) -> Bifurcation:
    """The fixed points that are found at each value, one below the other."""
    swept = values.to("cpu", torch.float64)
    found = [find(value) for value in swept.tolist()]
    counts = torch.tensor([f.points.numel() for f in found], dtype=torch.int64, device="cpu")
    nothing = torch.zeros(0, dtype=torch.float64, device="cpu")
    return Bifurcation(
        parameter=swept.repeat_interleave(counts),
        points=torch.cat([nothing, *(f.points for f in found)]),
        slopes=torch.cat([nothing, *(f.slopes for f in found)]),
        kinds=tuple(kind for f in found for kind in f.kinds),
    )


def stability_of(slope: float) -> ScalarStability:
    """Stability by a slope or a cycle's multiplier, marginal where |slope| is 1 within 1e-6.

    A tangent root is known to the root of the rounding error only, and its slope no better.
    """
    if abs(abs(slope) - 1) <= 1e-6:
        return "marginal"
    return "sink" if abs(slope) < 1 else "source"


def _value(f: ScalarMap, x: Tensor) -> Tensor:
    with torch.no_grad():
        return f(x)


def _slope(f: ScalarMap, x: Tensor) -> Tensor:
    with torch.enable_grad():
        at = x.detach().clone().requires_grad_()
        total = f(at).sum()
        return torch.autograd.grad(total, at)[0] if total.requires_grad else torch.zeros_like(x)


def _bisect(g: Callable[[Tensor], Tensor], grid: Tensor, values: Tensor) -> Float[Tensor, " roots"]:
    """Roots of g between neighbours of a grid where its sign changes, and on the grid itself."""
    on_grid = grid[values == 0]
    finite = values.isfinite()
    changes = (values[:-1] * values[1:] < 0) & finite[:-1] & finite[1:]
    low, high = grid[:-1][changes], grid[1:][changes]
    sign = values[:-1][changes].sign()
    for _ in range(1100):  # enough from any interval to neighbouring numbers
        middle = low + (high - low) / 2
        if bool(((middle == low) | (middle == high)).all()):
            break
        same = g(middle).sign() == sign
        low, high = torch.where(same, middle, low), torch.where(same, high, middle)
    nearer = torch.where(g(low).abs() <= g(high).abs(), low, high)
    return torch.cat([on_grid, nearer]).unique()


def _kinds(slopes: Tensor) -> tuple[ScalarStability, ...]:
    return tuple(stability_of(slope) for slope in slopes.tolist())
