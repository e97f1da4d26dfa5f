"""The search for states that a map moves little: local minima of its squared speed, by batches."""

import dataclasses
from collections.abc import Callable
from typing import final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from throughtime.core.jacobian import Dynamics

PATIENCE = 10
"""Iterations in which the speed, or the gradient of a search for a minimum, does not halve before a
search is given up."""

FREE_STEPS = 10
"""Newton steps that every second search begins with."""

STATIONARY = 1e-6
"""The largest |A'r| / (|A| |r|) of a minimum of q = |r|^2 / 2, where A = dr/ds."""

TINY = 1e-300  # keeps quotients of what may vanish finite


@dataclasses.dataclass(frozen=True, eq=False)
class Ends:
    """The ends of searches, one row a search.

    Attributes:
        states: s.
        speeds: |F(s, x) - s|.
        fixed: the speed is within the tolerance.
        stationary: the gradient of the squared speed vanishes there.
    """

    states: Float[Tensor, "starts size"]
    speeds: Float[Tensor, " starts"]
    fixed: Bool[Tensor, " starts"]
    stationary: Bool[Tensor, " starts"]


def scale_of(states: Float[Tensor, "starts size"]) -> Float[Tensor, " starts"]:
    """The size of each state that errors are relative to: its largest component, at least 1."""
    return states.abs().amax(-1).clamp_min(1.0)


@final
class SlowSearch:
    """Minimises q(s) = |r(s)|^2 / 2, r(s) = F(s, x) - s, from many states at once.

    Two stages, each on the rows that still need it. With A = dr/ds:

        roots      the better of Newton's step -A^-1 r and -(A'A + mu)^-1 A'r (Levenberg, Marquardt)
        minima     -(A'A + sum over k of r_k d2F_k/ds2 + mu)^-1 A'r, for rows that are slow

    mu grows after a step that does not lower q and shrinks after one that does. No step moves a
    component by more than the size of its state. Every second row begins with Newton steps that q
    need not fall in: they get out of minima of q that are no roots, where most searches in a
    network of rich dynamics end, while the other rows find those minima. Rows are independent.

    Arguments:
        dynamics: F, in float64.
        x: the constant input, (input,).
        tolerance: speed, relative to the state's size, at which a point is fixed.
        slow: speed below which a minimum that is no root is worth its second derivatives.
        reach: a search ends where the state has a component larger than this.
    """

    def __init__(
        self, dynamics: Dynamics, x: Tensor, *, tolerance: float, slow: float, reach: float
    ):
        self.dynamics, self.x, self.reach = dynamics, x, reach
        self.tolerance, self.slow = tolerance, slow
        # so many rows at once that the tangents of a chunk stay in the cache
        self.rows = max(1, 1_000_000 // dynamics.size**2)

    def run(self, starts: Float[Tensor, "starts size"], steps: int) -> Ends:
        """Search from each start.

        Arguments:
            steps: most iterations of each stage.
        """
        # so many at once that their Jacobians take 128 MiB
        parts = [
            self._run(chunk, steps)
            for chunk in starts.split(max(2, 2**24 // self.dynamics.size**2 // 2 * 2))
        ]
        return Ends(
            *(
                torch.cat([getattr(part, field.name) for part in parts])
                for field in dataclasses.fields(Ends)
            )
        )

    def _run(self, starts: Tensor, steps: int) -> Ends:
        every = torch.arange(starts.shape[0], device=starts.device)
        states = self._free_newton(starts, every[1::2])
        states = self._newton(states, every, steps, curved=False)
        speeds = self.residual(states).norm(dim=-1)
        open_ = (speeds > self.tolerance * scale_of(states)) & (speeds <= 2 * self.slow)
        states = self._newton(states, open_.nonzero()[:, 0], steps, curved=True)
        residual = self.residual(states)
        speeds = residual.norm(dim=-1)
        fixed = speeds <= self.tolerance * scale_of(states)
        stationary = fixed.clone()
        slow = ((speeds <= self.slow) & ~fixed).nonzero()[:, 0]
        if slow.numel():
            angle = _gradient_angle(self.slope(states[slow]), residual[slow])
            stationary[slow] = angle <= STATIONARY
        return Ends(states, speeds, fixed, stationary)

    def residual(self, states: Float[Tensor, "rows size"]) -> Float[Tensor, "rows size"]:
        """r(s) = F(s, x) - s."""
        return self.dynamics(states, self._inputs(states)) - states

    def slope(self, states: Float[Tensor, "rows size"]) -> Float[Tensor, "rows size size"]:
        """A = dr/ds = dF/ds - 1."""
        return self._in_chunks(self._slope, states)

    def hessian(self, states: Float[Tensor, "rows size"]) -> Float[Tensor, "rows size size"]:
        """Second derivatives of q: A'A + sum over k of r_k d2F_k/ds2."""
        slope = self.slope(states)
        return slope.mT @ slope + self._in_chunks(self._curvature, states, self.residual(states))

    def _inputs(self, states: Tensor) -> Tensor:
        return self.x.expand(states.shape[0], -1)

    def _in_chunks(self, function: Callable[..., Tensor], *rows: Tensor) -> Tensor:
        chunks = zip(*(r.split(self.rows) for r in rows), strict=True)
        return torch.cat([function(*chunk) for chunk in chunks])

    def _slope(self, states: Tensor) -> Tensor:
        jacobian = self.dynamics.jacobian(states, self._inputs(states))
        return jacobian - torch.eye(self.dynamics.size, dtype=states.dtype, device=states.device)

    def _curvature(self, states: Tensor, weights: Tensor) -> Tensor:
        """Second derivatives of w'F for fixed w, row by row."""
        x = self._inputs(states)

        # without annotations: tests would compile a check of them at every call
        def pulled(s):
            return torch.func.vjp(lambda z: self.dynamics(z, x), s)[1](weights)[0]

        def along(v):
            return torch.func.jvp(pulled, (states,), (v.expand_as(states),))[1]

        eye = torch.eye(self.dynamics.size, dtype=states.dtype, device=states.device)
        return torch.func.vmap(along)(eye).permute(1, 2, 0)

    def _free_newton(self, states: Tensor, rows: Tensor) -> Tensor:
        """A few Newton steps of these rows, whatever becomes of their speed."""
        states = states.clone()
        for _ in range(FREE_STEPS):
            s = states[rows]
            r = self.residual(s)
            moved, _ = self._try(s, torch.linalg.solve_ex(self.slope(s), -r)[0])
            go = (r.norm(dim=-1) > self.tolerance * scale_of(s)) & moved.isfinite().all(-1)
            states[rows] = torch.where(go[:, None], moved, s)
            rows = rows[go]
        return states

    def _newton(self, states: Tensor, active: Tensor, steps: int, *, curved: bool) -> Tensor:
        """Iterate the active rows until they are at a root, at a minimum, or stuck."""
        states = states.clone()
        mu = torch.full((states.shape[0],), 1e-6 if curved else 1e-2).to(states)
        mark = torch.full_like(mu, torch.inf)
        idle = torch.zeros_like(mu, dtype=torch.int64)
        for _ in range(steps):
            if not active.numel():
                break
            s = states[active]
            r = self.residual(s)
            speed = r.norm(dim=-1)
            slope = self.slope(s)
            gradient = (slope.mT @ r[..., None])[..., 0]
            normal = slope.mT @ slope
            size = normal.diagonal(dim1=-2, dim2=-1).mean(-1)
            if curved:
                normal = normal + self._in_chunks(self._curvature, s, r)
            damped = normal + (mu[active] * size + TINY)[:, None, None] * torch.eye(
                s.shape[-1], dtype=s.dtype, device=s.device
            )
            moved, lowered = self._try(s, _descent(damped, gradient))
            if not curved:
                newton, fast = self._try(s, torch.linalg.solve_ex(slope, -r)[0])
                better = fast < lowered
                moved = torch.where(better[:, None], newton, moved)
                lowered = torch.where(better, fast, lowered)
            took = lowered < speed
            states[active] = torch.where(took[:, None], moved, s)
            mu[active] = torch.where(took, mu[active] / 10, mu[active] * 4).clamp(1e-15, 1e15)
            # a root is polished for as long as its speed halves
            rooted = (speed <= self.tolerance * scale_of(s)) & (lowered > 0.5 * speed)
            if curved:
                rooted |= _gradient_angle(slope, r) <= 1e-3 * STATIONARY
            # near a minimum that is no root the speed no longer falls, though the gradient does
            progress = gradient.norm(dim=-1) if curved else lowered
            nearer = progress < 0.5 * mark[active]
            mark[active] = torch.where(nearer, progress, mark[active])
            idle[active] = torch.where(nearer, 0, idle[active] + 1)
            stuck = (idle[active] >= PATIENCE) | (mu[active] >= 1e15)
            active = active[~(rooted | stuck | (scale_of(s) > self.reach))]
        return states

    def _try(self, states: Tensor, step: Tensor) -> tuple[Tensor, Tensor]:
        """The states after a step that is not too long, and their speeds; infinite if undefined."""
        longest = step.abs().amax(-1)
        moved = states + step * (scale_of(states) / longest.clamp_min(TINY)).clamp_max(1.0)[:, None]
        speed = self.residual(moved).norm(dim=-1)
        return moved, torch.where(speed.isfinite(), speed, torch.inf)


def _descent(matrix: Tensor, gradient: Tensor) -> Tensor:
    """-M^-1 g by Cholesky, NaN where M is not positive definite."""
    factor, info = torch.linalg.cholesky_ex(matrix)
    step = torch.cholesky_solve(-gradient[..., None], factor)[..., 0]
    return torch.where((info == 0)[:, None], step, torch.nan)


def _gradient_angle(slope: Tensor, r: Tensor) -> Tensor:
    """|A'r| / (|A| |r|), A the slope of r: zero at minima of |r|^2."""
    gradient = (slope.mT @ r[..., None])[..., 0].norm(dim=-1)
    return gradient / (slope.norm(dim=(-2, -1)) * r.norm(dim=-1)).clamp_min(TINY)


def merge(
    states: Float[Tensor, "rows size"], radius: float
) -> tuple[Int[Tensor, " points"], Int[Tensor, " points"]]:
    """Rows that stand for groups of rows that lie together, first come first.

    Arguments:
        states: rows, the best first: each that is left takes all others within the radius.
        radius: the largest Euclidean distance within a group.

    Returns:
        Which rows stand for the groups, and how many rows each group has.
    """
    left = torch.arange(states.shape[0], device=states.device)
    kept: list[int] = []
    counts: list[int] = []
    while left.numel():
        near = (states[left] - states[left[0]]).norm(dim=-1) <= radius
        near[0] = True
        kept.append(int(left[0]))
        counts.append(int(near.sum()))
        left = left[~near]
    return (
        torch.tensor(kept, dtype=torch.int64, device=states.device),
        torch.tensor(counts, dtype=torch.int64, device=states.device),
    )
