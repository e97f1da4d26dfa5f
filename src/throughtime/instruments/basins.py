"""Basins of attraction of a recurrent cell, on a plane through its state space."""

import dataclasses

import torch
from jaxtyping import Float, Int
from torch import Tensor

from throughtime.core.cell import Cell
from throughtime.core.errors import ConfigurationError, ShapeError
from throughtime.core.jacobian import Dynamics
from throughtime.instruments.fixed_points import FixedPoints, autonomous, constant_input
from throughtime.results.record import Record


@dataclasses.dataclass(frozen=True, eq=False)
class Plane:
    """A rectangle in state space: origin + p * across + q * up.

    Attributes:
        origin: the point at which both coordinates are 0.
        across: direction of the first coordinate, of length 1.
        up: direction of the second, of length 1, at a right angle to `across`.
        extent: lowest and highest p, lowest and highest q.
    """

    origin: Float[Tensor, " size"]
    across: Float[Tensor, " size"]
    up: Float[Tensor, " size"]
    extent: tuple[float, float, float, float]

    def coordinates(self, states: Float[Tensor, "rows size"]) -> Float[Tensor, "rows 2"]:
        """p and q of the feet of the perpendiculars from these states.

        Arguments:
            states: a row each.
        """
        return (states - self.origin) @ torch.stack([self.across, self.up], 1)


@dataclasses.dataclass(frozen=True, eq=False)
class Basins(Record):
    """The ends of trajectories that start on a plane. Rows are q, columns p, both rising.

    Attributes:
        plane: the starts' rectangle.
        across: p of each column.
        up: q of each row.
        attractor: the given point that the trajectory ends in, as its row in
            `FixedPoints.states`; -1 for none within the steps.
        time: steps until the trajectory is within the tolerance of its attractor, to stay; -1 for
            none.
        period: period of those that end in no attractor: the least number of steps after which the
            state returns within the tolerance: 1 at rest at a point that is not given or is
            marginal, 2 or more on a cycle; 0 where the trajectory has an attractor, or does not
            return within `longest_period` steps, as on rings and in chaos.
    """

    plane: Plane
    across: Float[Tensor, " columns"]
    up: Float[Tensor, " rows"]
    attractor: Int[Tensor, "rows columns"]
    time: Int[Tensor, "rows columns"]
    period: Int[Tensor, "rows columns"]

    @property
    def unsettled(self) -> int:
        """Starts that end in none of the attractors."""
        return int((self.attractor < 0).sum())

    @property
    def cycling(self) -> int:
        """Starts that end on a cycle of two steps or more."""
        return int((self.period >= 2).sum())

    def shares(self) -> dict[int, float]:
        """Part of the starts that end in each attractor; -1 for none."""
        values, counts = self.attractor.unique(return_counts=True)
        total = max(self.attractor.numel(), 1)
        pairs = zip(values.tolist(), counts.tolist(), strict=True)
        return {value: count / total for value, count in pairs}


def axes_plane(
    extent: tuple[float, float, float, float] = (-1.0, 1.0, -1.0, 1.0),
) -> Plane:
    """The state space of a cell whose state has two components.

    Arguments:
        extent: lowest and highest of the first component, then of the second.

    Returns:
        The plane, with the axes as directions.

    Raises:
        ConfigurationError: an extent that is empty.
    """
    _check_extent(extent)
    eye = torch.eye(2, dtype=torch.float64, device="cpu")
    return Plane(torch.zeros_like(eye[0]), eye[0], eye[1], extent)


def principal_plane(states: Float[Tensor, "rows size"], *, margin: float = 0.2) -> Plane:
    """The plane through the mean of states along their two leading principal directions.

    Arguments:
        states: three states or more, from `visited_states` for instance, or fixed points.
        margin: width that the rectangle has beyond the states on each side, as a part of its
            width.

    Returns:
        The plane; each direction points to where its largest component is positive.

    Raises:
        ConfigurationError: fewer than three states or two components, or states on one line.

    Example:
        >>> plane = principal_plane(torch.tensor([[0.0, 0, 0], [4, 0, 0], [0, 2, 0]]))
        >>> plane.up[2].item()
        0.0
    """
    rows = states.detach().to("cpu", torch.float64)
    if rows.shape[0] < 3 or rows.shape[1] < 2:
        raise ConfigurationError(
            "states", got=tuple(rows.shape), expected="at least 3 rows of at least 2 components"
        )
    origin = rows.mean(0)
    _, spread, directions = torch.linalg.svd(rows - origin, full_matrices=False)
    if not float(spread[1]) > 1e-9 * float(spread[0]):
        raise ConfigurationError(
            "states", got="states on one line", expected="states that span a plane"
        )
    across, up = (d * d[d.abs().argmax()].sign() for d in directions[:2])
    plane = Plane(origin, across, up, (0.0, 0.0, 0.0, 0.0))
    feet = plane.coordinates(rows)
    low, high = feet.amin(0), feet.amax(0)
    low, high = low - margin * (high - low), high + margin * (high - low)
    extent = (float(low[0]), float(high[0]), float(low[1]), float(high[1]))
    return dataclasses.replace(plane, extent=extent)


def basins(
    cell: Cell,
    points: FixedPoints,
    plane: Plane | None = None,
    *,
    resolution: tuple[int, int] = (101, 101),
    steps: int = 1000,
    tolerance: float = 1e-3,
    longest_period: int = 64,
) -> Basins:
    """Iterate a cell from a grid of starts on a plane, and see which attractor each ends in.

    A trajectory has ended in the attractor s* once (s - s*)' P (s - s*) <= tolerance^2, where P =
    sum over k of (J')^k J^k at s*: near s* this never grows again, while the Euclidean distance
    may, and it is never less than that.

    Arguments:
        cell: the cell whose points they are. It is left unchanged.
        points: its fixed points; attractors are those that are sinks. The input is theirs.
        plane: plane of the starts; if None, that of the two components of a state of two, from -1
            to 1 or as wide as the points are.
        resolution: columns and rows, at least 2 each.
        steps: the most that a trajectory is followed.
        tolerance: the tolerance above, relative to the largest component of all points, at least 1;
            but no more than a quarter of the least distance between points.
        longest_period: longest period of the cycles that are looked for.

    Returns:
        One entry for each start.

    Raises:
        ConfigurationError: no plane for a state of more than two components; options out of range;
            a cell that `fixed_points` refuses.
        ShapeError: points or a plane of another state space.

    Example:
        >>> from throughtime.cells import ElmanCell
        >>> from throughtime.instruments.fixed_points import fixed_points
        >>> cell = ElmanCell(1, 2, bias=False)
        >>> _ = cell.weight_hh.data.copy_(1.5 * torch.eye(2))
        >>> points = fixed_points(cell, starts=100)
        >>> found = basins(cell, points, resolution=(10, 10))
        >>> sorted(found.shares().values())
        [0.25, 0.25, 0.25, 0.25]
    """
    dynamics = autonomous(cell)
    x = constant_input(dynamics, points.inputs)
    if points.states.shape[1] != dynamics.size:
        raise ShapeError(
            "points", got=f"states of {points.states.shape[1]}", expected=f"{dynamics.size}"
        )
    plane = _default_plane(points) if plane is None else plane
    if plane.origin.shape[0] != dynamics.size:
        raise ShapeError(
            "plane", got=f"states of {plane.origin.shape[0]}", expected=f"{dynamics.size}"
        )
    _check_extent(plane.extent)
    columns, rows = resolution
    if columns < 2 or rows < 2:
        raise ConfigurationError("resolution", got=resolution, expected="at least 2 by 2")
    for name, value in (("steps", steps), ("tolerance", tolerance), ("period", longest_period)):
        if not value > 0:
            raise ConfigurationError(name, got=value, expected="more than 0")
    left, right, bottom, top = plane.extent
    across, up = _spaced(left, right, columns), _spaced(bottom, top, rows)
    grid = plane.origin + across[None, :, None] * plane.across + up[:, None, None] * plane.up
    starts = grid.reshape(-1, dynamics.size).to(dynamics.device, dynamics.dtype)
    with torch.no_grad():
        radius = _radius(points, tolerance)
        attractor, time, left_over, ends = _follow(dynamics, x, points, starts, steps, radius)
        period = torch.zeros_like(attractor)
        period[left_over] = _periods(dynamics, x, ends, longest_period, radius)
    shape = (rows, columns)
    return Basins(
        plane=plane,
        across=across,
        up=up,
        attractor=attractor.reshape(shape).cpu(),
        time=time.reshape(shape).cpu(),
        period=period.reshape(shape).cpu(),
    )


def _spaced(low: float, high: float, count: int) -> Float[Tensor, " count"]:
    """Numbers from low to high in equal steps, with an exact zero in a symmetric range.

    `torch.linspace` misses it by a rounding error, which a saddle there would blow up.
    """
    part = torch.arange(count, dtype=torch.float64, device="cpu") / (count - 1)
    return low * (1 - part) + high * part


def _default_plane(points: FixedPoints) -> Plane:
    if points.states.shape[1] != 2:
        raise ConfigurationError(
            "plane",
            got=f"none, for a state of {points.states.shape[1]} components",
            expected="a plane",
            fix="Pass principal_plane(visited_states(recording)), or that of the points.",
        )
    wide = points.states.abs().amax(0).clamp_min(1.0).tolist() if len(points.kinds) else [1.0, 1.0]
    return axes_plane((-wide[0], wide[0], -wide[1], wide[1]))


def _check_extent(extent: tuple[float, float, float, float]) -> None:
    if not (extent[0] < extent[1] and extent[2] < extent[3]):
        raise ConfigurationError("extent", got=extent, expected="lowest below highest, twice")


def _radius(points: FixedPoints, tolerance: float) -> float:
    """The tolerance in the units of the state."""
    states = points.states[points.fixed]
    if not states.numel():
        return tolerance
    radius = tolerance * max(1.0, float(states.abs().max()))
    if states.shape[0] > 1:
        radius = min(radius, float(torch.pdist(states).min()) / 4)
    return radius


def _follow(
    dynamics: Dynamics, x: Tensor, points: FixedPoints, starts: Tensor, steps: int, radius: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Attractor and time of each start, and the rows that are left over with where they are."""
    chosen = points.attractors
    sinks = points.states[chosen].to(starts)
    metrics = [_metric(dynamics, x, sink) for sink in sinks]
    attractor = torch.full(starts.shape[:1], -1, dtype=torch.int64, device=starts.device)
    time = attractor.clone()
    active = torch.arange(starts.shape[0], device=starts.device)
    states = starts
    for t in range(steps + 1):
        for k, sink, metric in zip(chosen, sinks, metrics, strict=True):
            off = states - sink
            near = (off * (off @ metric)).sum(-1) <= radius**2
            attractor[active[near]], time[active[near]] = k, t
        left = attractor[active] < 0
        active, states = active[left], states[left]
        if t == steps or not active.numel():
            break
        states = dynamics(states, x.expand(states.shape[0], -1))
    return attractor, time, active, states


def _metric(dynamics: Dynamics, x: Tensor, sink: Tensor) -> Float[Tensor, "size size"]:
    """P = sum over k of (J')^k J^k, so that J'PJ = P - 1: doubled until J^k is nothing."""
    power = dynamics.jacobian(sink[None], x[None])[0]
    metric = torch.eye(dynamics.size, dtype=sink.dtype, device=sink.device)
    for _ in range(60):
        more = power.mT @ metric @ power
        metric = metric + more
        power = power @ power
        if float(more.norm()) <= 1e-16 * float(metric.norm()):
            break
    return metric


def _periods(
    dynamics: Dynamics, x: Tensor, states: Tensor, longest: int, radius: float
) -> Int[Tensor, " rows"]:
    """The first step up to the longest after which a state is back; 0 if none is."""
    period = torch.zeros(states.shape[:1], dtype=torch.int64, device=states.device)
    moved = states
    for k in range(1, longest + 1):
        if not states.shape[0]:
            break
        moved = dynamics(moved, x.expand(moved.shape[0], -1))
        back = (moved - states).norm(dim=-1) <= radius
        period[(period == 0) & back] = k
    return period
