"""Fixed points and slow points of a recurrent cell under a constant input."""

import dataclasses
from typing import Literal, TypeAlias

import torch
from jaxtyping import Bool, Complex, Float, Int
from torch import Tensor

from throughtime.core.cell import Cell
from throughtime.core.errors import ConfigurationError, ShapeError
from throughtime.core.jacobian import Dynamics
from throughtime.core.state import state_tensors
from throughtime.foreign.recording import Recording, cast_cell
from throughtime.instruments.slow_search import Ends, SlowSearch, merge, scale_of
from throughtime.results.record import Record

Stability: TypeAlias = Literal["sink", "saddle", "source", "marginal"]
"""By |lambda| of the Jacobian's eigenvalues: all below 1, on both sides, all above 1; marginal if
one is 1 within a tolerance, so that the linear part does not tell."""


@dataclasses.dataclass(frozen=True, eq=False)
class FixedPoints(Record):
    """Fixed and slow points of s_t = F(s_{t-1}, x), x constant. All in float64, on the CPU.

    Fixed points come first; within each sort, those with fewer unstable directions, then those that
    more searches ended at.

    Attributes:
        states: the points, fields of the state side by side.
        speeds: |F(s, x) - s|.
        fixed: True for fixed points, False for slow ones: minima of the speed that are no roots.
        eigenvalues: eigenvalues of dF/ds, by falling modulus.
        kinds: stability of each point; for slow points that of the linear part alone.
        unstable: number of eigenvalues outside the unit circle, beyond the tolerance.
        found: searches that ended at each point. Not its basin of attraction: see `basins`.
        searches: number of searches.
        inputs: x.
        fields: slice of a row of `states` that each field of the state takes.
    """

    states: Float[Tensor, "points size"]
    speeds: Float[Tensor, " points"]
    fixed: Bool[Tensor, " points"]
    eigenvalues: Complex[Tensor, "points size"]
    kinds: tuple[Stability, ...]
    unstable: Int[Tensor, " points"]
    found: Int[Tensor, " points"]
    searches: int
    inputs: Float[Tensor, " input"]
    fields: dict[str, slice]

    @property
    def attractors(self) -> list[int]:
        """The points that are fixed and sinks."""
        return [k for k, kind in enumerate(self.kinds) if kind == "sink" and bool(self.fixed[k])]

    @property
    def not_converged(self) -> int:
        """Searches that ended at no fixed and no slow point."""
        return self.searches - int(self.found.sum())

    @property
    def share(self) -> Float[Tensor, " points"]:
        """Part of all searches that ended at each point."""
        return self.found.double() / max(self.searches, 1)

    @property
    def unseen(self) -> float:
        """Estimated share of successful searches that another try would end at a new fixed point.

        The share of those that ended where no other did (Good, 1953); 1 if none succeeded.
        """
        found = self.found[self.fixed]
        return float((found == 1).sum() / found.sum()) if found.numel() else 1.0

    @property
    def time_constants(self) -> Float[Tensor, "points size"]:
        """-1 / log|lambda|: steps in which a deviation falls to 1/e; negative where it grows.

        Zero where lambda is, infinite where |lambda| is 1.
        """
        times = -1 / self.eigenvalues.abs().log()
        return torch.where(times.isinf(), torch.inf, times)


def fixed_points(
    cell: Cell,
    *,
    inputs: Float[Tensor, " input"] | None = None,
    starts: int | Float[Tensor, "starts size"] = 512,
    tolerance: float = 1e-10,
    slow: float = 1e-2,
    marginal: float = 1e-4,
    apart: float = 1e-5,
    reach: float = 10.0,
    steps: int = 100,
    seed: int = 0,
) -> FixedPoints:
    """Find states that a cell leaves where they are, or nearly so, under a constant input.

        fixed      F(s, x) = s
        slow       a local minimum of q(s) = |F(s, x) - s|^2 / 2 that is small but not zero
        stability  eigenvalues of J = dF/ds

    Searches run in float64, with exact Jacobians. That all points are found is not guaranteed:
    `unseen` estimates what is left.

    Arguments:
        cell: any cell whose map is the same at every step. It is left as it was.
        inputs: x, the same at every step; zeros if None.
        starts: states to search from, fields side by side as `Dynamics.flatten` lays them; or how
            many: the cell's initial state, then random states, components uniform in [-1, 1], every
            second one moved by up to 20 steps of the cell.
        tolerance: the largest speed |F(s, x) - s| of a fixed point, relative to the largest
            component of s where that exceeds 1.
        slow: the largest speed of a slow point.
        marginal: distance from 1 of an eigenvalue's modulus, within which a point is marginal.
        apart: points nearer than this are one, relative to the largest component of all starts,
            at least 1.
        reach: searches that end at a component this many times larger are given up: where gates
            saturate, every state far out is nearly fixed.
        steps: most iterations of Newton's method in each stage of a search.
        seed: seed of the random states.

    Returns:
        The points, without duplicates.

    Raises:
        ConfigurationError: a cell with streams or whole numbers in its state, whose map changes
            from step to step; no starts; an option that is not positive.
        ShapeError: inputs or starts of another width.

    Example:
        >>> from throughtime.cells import ElmanCell
        >>> cell = ElmanCell(1, 2, bias=False)
        >>> _ = cell.weight_hh.data.copy_(1.5 * torch.eye(2))  # two units that do not meet
        >>> points = fixed_points(cell, starts=200)
        >>> [points.kinds.count(k) for k in ("sink", "saddle", "source")]
        [4, 4, 1]

    Source:
        Sussillo and Barak, "Opening the black box: low-dimensional dynamics in high-dimensional
        recurrent neural networks", Neural Computation 25(3), 2013.

    Differs from the paper in:
        second-order steps from the outset, half of the searches by Newton's method for roots; slow
        points are minima of q, not all states below a cut.
    """
    _check_positive(
        tolerance=tolerance, slow=slow, marginal=marginal, apart=apart, reach=reach, steps=steps
    )
    dynamics = autonomous(cell)
    x = constant_input(dynamics, inputs)
    if isinstance(starts, int):
        if starts < 1:
            raise ConfigurationError("starts", got=starts, expected="at least 1")
        states = _random_starts(dynamics, x, starts, seed)
    else:
        if starts.shape[0] < 1:
            raise ConfigurationError("starts", got="no states", expected="at least 1")
        states = _of_width(starts, dynamics.size, "starts").to(dynamics.device, dynamics.dtype)
    if not bool(states.isfinite().all()):
        raise ConfigurationError("starts", got="values that are not finite", expected="finite ones")
    with torch.no_grad():
        scale = float(scale_of(states).max())
        search = SlowSearch(dynamics, x, tolerance=tolerance, slow=slow, reach=reach * scale)
        ends = search.run(states, steps)
        return _collect(search, ends, marginal=marginal, radius=apart * scale)


def recorded_fixed_points(
    recording: Recording,
    *,
    inputs: Float[Tensor, " input"] | Literal["mean", "zero"] = "mean",
    starts: int = 512,
    noise: float = 0.0,
    tolerance: float = 1e-10,
    slow: float = 1e-2,
    marginal: float = 1e-4,
    apart: float = 1e-5,
    reach: float = 10.0,
    steps: int = 100,
    seed: int = 0,
) -> FixedPoints:
    """Find the fixed and slow points of a recorded cell, from states that it visited.

    Arguments:
        recording: recording of the cell; see `record`.
        inputs: x: the mean of the recorded inputs over valid steps, zeros, or a vector (input,).
        starts: number of visited states to search from, drawn without replacement; all if fewer.
        noise: standard deviation of Gaussian noise on the starts, relative to that of each
            component over the visited states: unstable points are not visited.
        tolerance, slow, marginal, apart, reach, steps: options of `fixed_points`.
        seed: seed of the draws and the noise.

    Returns:
        The points, without duplicates.

    Raises:
        ConfigurationError: as `fixed_points`, or negative noise.
        ShapeError: inputs of another width.

    Example:
        >>> from torch import nn
        >>> from throughtime.foreign.recording import record
        >>> model = nn.GRU(1, 4)
        >>> recording = record(model, lambda: model(torch.randn(30, 8, 1))[0].sum())
        >>> recorded_fixed_points(recording, starts=50).kinds
        ('sink',)
    """
    if noise < 0:
        raise ConfigurationError("noise", got=noise, expected="zero or more")
    if starts < 1:
        raise ConfigurationError("starts", got=starts, expected="at least 1")
    visited = visited_states(recording)
    generator = torch.Generator("cpu").manual_seed(seed)
    chosen = visited[torch.randperm(visited.shape[0], generator=generator, device="cpu")[:starts]]
    spread = noise * visited.std(0, correction=0)
    chosen = chosen + spread * torch.randn(
        chosen.shape, generator=generator, dtype=chosen.dtype, device="cpu"
    )
    if isinstance(inputs, Tensor):
        x = inputs
    elif inputs == "mean":
        x = recording.inputs[_valid(recording).to(recording.inputs.device)].double().mean(0)
    else:
        x = None
    return fixed_points(
        recording.cell,
        inputs=x,
        starts=chosen,
        tolerance=tolerance,
        slow=slow,
        marginal=marginal,
        apart=apart,
        reach=reach,
        steps=steps,
        seed=seed,
    )


def visited_states(recording: Recording) -> Float[Tensor, "visits size"]:
    """The states of all valid steps of a recording, as `Dynamics.flatten` lays them.

    Arguments:
        recording: recording of a cell without streams.

    Returns:
        Step by step, in float64, on the CPU.

    Raises:
        ConfigurationError: a cell with streams.
    """
    flat = autonomous(recording.cell).flatten(recording.states)
    return flat[_valid(recording).to(flat.device)].double().cpu()


def autonomous(cell: Cell) -> Dynamics:
    """The map of a cell in float64, refused if it is not the same at every step.

    Arguments:
        cell: any cell.

    Raises:
        ConfigurationError: a cell with streams or whole numbers in its state.
    """
    dynamics = Dynamics(cast_cell(cell, torch.float64))
    state = dynamics.cell.initial_state(1, dtype=dynamics.dtype, device=dynamics.device)
    counted = any(not s.is_floating_point() for s in state_tensors(state))
    if cell.streams or counted:
        names = ", ".join(cell.streams) or "whole numbers in its state"
        raise ConfigurationError(
            type(cell).__name__,
            got=f"a map that changes from step to step ({names})",
            expected="a cell without streams and whole numbers",
            fix="Fixed points are those of one map: give a cell without masks or a schedule.",
        )
    return dynamics


def constant_input(
    dynamics: Dynamics, inputs: Float[Tensor, " input"] | None
) -> Float[Tensor, " input"]:
    """x in float64 on the cell's device, zeros if None.

    Arguments:
        dynamics: the cell's map.
        inputs: x, given by the user; None for zeros.

    Raises:
        ShapeError: another width than the cell's.
    """
    if inputs is None:
        return torch.zeros(dynamics.cell.input_size, dtype=dynamics.dtype, device=dynamics.device)
    return (
        _of_width(inputs, dynamics.cell.input_size, "inputs")
        .detach()
        .to(dynamics.device, dynamics.dtype)
    )


def _of_width(tensor: Tensor, width: int, name: str) -> Tensor:
    if tensor.shape[-1] != width:
        raise ShapeError(name, got=tuple(tensor.shape), expected=f"a last axis of {width}")
    return tensor


def _check_positive(**options: float) -> None:
    for name, value in options.items():
        if not value > 0:
            raise ConfigurationError(name, got=value, expected="more than 0")


def _valid(recording: Recording) -> Bool[Tensor, "time batch"]:
    return torch.arange(recording.time, device="cpu")[:, None] < recording.valid_lengths()


def _random_starts(
    dynamics: Dynamics, x: Tensor, count: int, seed: int
) -> Float[Tensor, "starts size"]:
    generator = torch.Generator("cpu").manual_seed(seed)
    states = (
        2
        * torch.rand((count, dynamics.size), generator=generator, dtype=torch.float64, device="cpu")
        - 1
    )
    moves = torch.randint(1, 21, (count,), generator=generator, device="cpu")
    # the search treats odd and even rows unlike: both get moved states
    moves[torch.arange(count, device="cpu") % 4 < 2] = 0
    states, moves = states.to(dynamics.device), moves.to(dynamics.device)
    with torch.no_grad():
        for k in range(20):
            moved = dynamics(states, x.expand(count, -1))
            moving = (moves > k) & moved.isfinite().all(-1)
            states = torch.where(moving[:, None], moved, states)
        initial = dynamics.cell.initial_state(1, dtype=dynamics.dtype, device=dynamics.device)
        states[0] = dynamics.flatten(initial)[0]
    return states


def _collect(search: SlowSearch, ends: Ends, *, marginal: float, radius: float) -> FixedPoints:
    """Unique points among the ends of searches, classified and in order."""
    near = scale_of(ends.states) <= search.reach
    parts: list[tuple[Tensor, Tensor, bool]] = []
    for fixed in (True, False):
        wanted = (near & (ends.fixed if fixed else ends.stationary & ~ends.fixed)).nonzero()[:, 0]
        wanted = wanted[ends.speeds[wanted].argsort(stable=True)]
        states = ends.states[wanted]
        kept, found = merge(states, radius)
        if not fixed and kept.numel():
            # a vanishing gradient may be a maximum or a saddle of q as well
            curvature = torch.linalg.eigvalsh(search.hessian(states[kept]))
            lowest = curvature[:, 0] >= -1e-9 * curvature[:, -1].abs()
            kept, found = kept[lowest], found[lowest]
        parts.append((states[kept], found, fixed))
    states = torch.cat([s for s, _, _ in parts])
    found = torch.cat([f for _, f, _ in parts]).cpu()
    fixed = torch.cat([torch.full((s.shape[0],), f, device="cpu") for s, _, f in parts])
    speeds = search.residual(states).norm(dim=-1).cpu()
    size = states.shape[-1]
    if states.shape[0]:
        jacobians = search.slope(states) + torch.eye(size, dtype=states.dtype, device=states.device)
        eigenvalues = torch.linalg.eigvals(jacobians.cpu())
    else:
        eigenvalues = torch.zeros(0, size, dtype=torch.complex128, device="cpu")
    modulus, falling = eigenvalues.abs().sort(descending=True, stable=True)
    eigenvalues = eigenvalues.gather(1, falling)
    unstable = (modulus > 1 + marginal).sum(1)
    states = states.cpu()
    # the last key breaks ties between points that are mirror images of each other
    sorts = (~fixed).tolist(), unstable.tolist(), (-found).tolist(), states.tolist()
    keys = enumerate(zip(*sorts, strict=True))
    order = [k for k, _ in sorted(keys, key=lambda e: e[1])]
    rows = torch.tensor(order, dtype=torch.int64, device="cpu")
    return FixedPoints(
        states=states[rows],
        speeds=speeds[rows],
        fixed=fixed[rows],
        eigenvalues=eigenvalues[rows],
        kinds=tuple(_stability(m, marginal) for m in modulus[rows]),
        unstable=unstable[rows],
        found=found[rows],
        searches=ends.states.shape[0],
        inputs=search.x.cpu(),
        fields=search.dynamics.fields,
    )


def _stability(modulus: Float[Tensor, " size"], marginal: float) -> Stability:
    if bool(((modulus - 1).abs() <= marginal).any()):
        return "marginal"
    outside = int((modulus > 1).sum())
    if outside == 0:
        return "sink"
    return "source" if outside == modulus.numel() else "saddle"
