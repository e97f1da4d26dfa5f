"""The Jacobians along a recorded run, and their products over many steps."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor

from throughtime.core.errors import ConfigurationError
from throughtime.core.jacobian import GatedJacobian, GeneralJacobian, StepJacobian
from throughtime.core.state import Layout, State, map_state, restarted, state_tensors
from throughtime.engines.trace.plan import elementwise
from throughtime.foreign.recording import Recording, cast_cell

SMALL = 64  # states up to this size are treated whole
_NOTHING = -1e9  # stands for log 0 where differences of logarithms are taken
_TOLERANCE = 1e-6  # of logarithms, from one look at an iteration to the next
_STEPS = 1024  # of an iteration at most, but for eight turns
_NEAR = 10.0  # logarithm of a condition number that costs an ordinary decomposition few digits


@final
@dataclasses.dataclass(frozen=True, eq=False)
class LinearisedRun:
    """J_t = ds_t/ds_{t-1} of every step of one sequence, in float64.

    J_t of a step that starts afresh is the Jacobian by the state that it starts from; `resets`
    lists these steps, whose state does not depend on the one before.

    Attributes:
        jacobian: the derivatives, a step a row.
        resets: the steps that start afresh.
        changes: the steps before which the model itself made another state of the cell's, by an
            unknown map.
    """

    jacobian: StepJacobian
    resets: tuple[int, ...]
    changes: tuple[int, ...]

    @property
    def steps(self) -> int:
        """Number of steps."""
        return len(self.jacobian.s)

    @property
    def size(self) -> int:
        """Width of s."""
        return self.jacobian.size

    @property
    def device(self) -> torch.device:
        """The device of the cell."""
        return self.jacobian.s.device

    def pushforward(
        self, at: slice, tangents: Float[Tensor, "k steps size"]
    ) -> Float[Tensor, "k steps size"]:
        """Return J_t v for k vectors of each of some steps."""
        return self.jacobian.rows(at).push(tangents)

    def pullback(
        self, at: slice, cotangents: Float[Tensor, "k steps size"]
    ) -> Float[Tensor, "k steps size"]:
        """Return J_t' v for k vectors of each of some steps."""
        return self.jacobian.rows(at).pull(cotangents)

    def dense(self, at: slice) -> Float[Tensor, "steps size size"]:
        """Return J_t of some steps in full: entry [t, i, j] is ds_i/ds_j."""
        return self.jacobian.rows(at).dense()


def linearise(recording: Recording, sequence: int) -> LinearisedRun:
    """Return the Jacobians of one sequence's valid steps, at the recorded states, in float64.

    Raises:
        ConfigurationError: no such sequence, or inputs or states that are not finite.
    """
    if not 0 <= sequence < recording.batch:
        raise ConfigurationError(
            "sequence", got=sequence, expected=f"from 0 to {recording.batch - 1}"
        )
    steps = int(recording.valid_lengths()[sequence])
    cell = cast_cell(recording.cell, torch.float64)
    start = map_state(lambda s: _double(s[sequence : sequence + 1]), recording.initial)
    after = map_state(lambda s: _double(s[:steps, sequence]), recording.states)
    before = map_state(lambda s, a: torch.cat([s, a[:-1]]), start, after)
    layout, device = Layout(before), recording.inputs.device
    fresh = cell.initial_state(1, dtype=torch.float64, device=device)
    reset = torch.zeros(steps, dtype=torch.bool, device=device)
    if recording.resets is not None:
        reset = recording.resets[:steps, sequence].clone()
    changes: list[int] = []
    for t, state in recording.starts.items():
        if t >= steps or bool(reset[t]):
            continue
        given = map_state(lambda s: _double(s[sequence : sequence + 1]), state)
        if _equal(given, map_state(lambda s, t=t: s[t : t + 1], before)):
            continue
        if _equal(given, fresh):
            reset[t] = True  # masked away
        else:
            changes.append(t)
            before = map_state(lambda s, g, t=t: torch.cat([s[:t], g, s[t + 1 :]]), before, given)
    every = map_state(lambda f: f.expand(steps, *f.shape[1:]), fresh)
    before = restarted(reset, every, before)
    inputs = recording.inputs[:steps, sequence].double()
    checked = (("states", layout.flatten(before)), ("states", layout.flatten(after)))
    for name, values in (*checked, ("inputs", inputs)):
        bad = ~values.isfinite().all(-1)
        if bool(bad.any()):
            raise ConfigurationError(
                "recording",
                got=f"{name} that are not finite at step {int(bad.nonzero()[0, 0])}",
                expected="finite ones, which alone have a Jacobian",
            )
    streams = tuple(_double(s[:steps, sequence]) for s in recording.streams)
    kind: Any = GatedJacobian if elementwise(cell) else GeneralJacobian
    jacobian = kind(cell, before, inputs, streams)
    return LinearisedRun(jacobian, tuple(reset.nonzero()[:, 0].tolist()), tuple(changes))


def leading_count(top: int | None, size: int) -> int:
    """Return the number of leading values that are found; raise ConfigurationError out of range."""
    if top is None:
        return size if size <= SMALL else 16
    if not 1 <= top <= size:
        raise ConfigurationError("top", got=top, expected=f"from 1 to the state's size, {size}")
    return top


def _double(tensor: Tensor) -> Tensor:
    """A tensor in float64; whole numbers stay."""
    return tensor.double() if tensor.is_floating_point() else tensor


def _equal(one: State, other: State) -> bool:
    pairs = zip(state_tensors(one), state_tensors(other), strict=True)
    return all(torch.equal(a, b) for a, b in pairs if a.is_floating_point())


@dataclasses.dataclass(frozen=True, eq=False)
class Graded:
    """A matrix B' diag(exp(g)) M that may be of any size: B has orthonormal rows.

    The rows of M stay of order one and far from dependent, so that each singular value of the whole
    keeps its digits however small it is beside the largest (Loh et al. 1989, who needed the same of
    products of transfer matrices).

    Attributes:
        basis: B.
        scale: g, natural logarithms, -inf for zero.
        mixing: M.
    """

    basis: Float[Tensor, "k size"]
    scale: Float[Tensor, " k"]
    mixing: Float[Tensor, "k k"]


def graded(basis: Float[Tensor, "k size"]) -> Graded:
    """The matrix with these orthonormal rows, transposed."""
    count = basis.shape[0]
    eye = torch.eye(count, dtype=basis.dtype, device=basis.device)
    return Graded(basis, torch.zeros_like(eye[0]), eye)


def multiplied(matrix: Graded, image: Float[Tensor, "k size"]) -> Graded:
    """J B' diag(exp(g)) M in the same form again.

    Arguments:
        matrix: B' diag(exp(g)) M.
        image: J applied to each row of B.
    """
    order = (matrix.scale + image.norm(dim=1).log()).argsort(descending=True)
    basis, triangle = torch.linalg.qr(image[order].T)
    terms = triangle.abs().log() + matrix.scale[order]
    scale = terms.amax(1)
    weights = triangle.sign() * (terms - scale[:, None]).exp()
    eye = torch.eye(len(scale), dtype=scale.dtype, device=scale.device)
    weights = torch.where(scale[:, None].isinf(), eye, weights)
    return Graded(basis.T.contiguous(), scale, weights @ matrix.mixing[order])


def orthonormal(rows: Float[Tensor, "k size"]) -> Float[Tensor, "k size"]:
    """An orthonormal basis of what the rows span."""
    return torch.linalg.qr(rows.T)[0].T.contiguous()


def multiplied_out(
    run: LinearisedRun, lags: Sequence[int]
) -> dict[int, tuple[Float[Tensor, " size"], Float[Tensor, "size size"]]]:
    """J_T ... J_{T-n+1} as matrices, T the last step: for few steps and a moderate width.

    Arguments:
        lags: n, increasing.

    Returns:
        By lag, the logarithms of the singular values, decreasing, and the left singular vectors as
        rows. Values below 1e-16 of the largest are lost in its rounding.
    """
    found: dict[int, tuple[Tensor, Tensor]] = {}
    product = torch.eye(run.size, dtype=torch.float64, device=run.device)
    scale = 0.0
    for lag in range(1, max(lags, default=0) + 1):
        at = slice(run.steps - lag, run.steps - lag + 1)
        product = run.pullback(at, product[:, None])[:, 0]  # row by row
        norm = float(product.norm())
        if norm > 0:
            product, scale = product / norm, scale + math.log(norm)
        if lag in lags:
            left, values, _ = torch.linalg.svd(product)
            found[lag] = (values.log().cpu() + scale, left.T.contiguous())
    return found


def leading_log_singular_values(
    run: LinearisedRun,
    first: int,
    stop: int,
    left: Float[Tensor, "k size"],
) -> tuple[Float[Tensor, " k"], float, Float[Tensor, "k size"]]:
    """Return the leading log singular values of J_{stop-1} ... J_first, by subspace iteration.

    The values are those of the product as seen from the subspace, which never exceed the true ones
    (Halko et al. 2011). Iterations go back through all steps and forward again, in turns.

    Arguments:
        left: orthonormal rows to start from; more of them than values are wanted.

    Returns:
        Their logarithms, decreasing; the last change of them; and a basis of the left subspace.
    """
    count, size = left.shape
    judged = max(1, count - count // 3)  # the last third is there for the others' sake
    limit = 1 if count >= size else max(8, _STEPS // (stop - first))
    values, done, check = torch.full((count,), torch.inf, dtype=left.dtype, device="cpu"), 0, 1
    basis = left
    while True:
        done += 1
        looking, back = done in (check, limit), done % 2 == 1
        product = graded(basis)
        for t in reversed(range(first, stop)) if back else range(first, stop):
            apply = run.pullback if back else run.pushforward
            image = apply(slice(t, t + 1), product.basis[:, None])[:, 0]
            product = multiplied(product, image) if looking else graded(orthonormal(image))
        basis = product.basis
        left = left if back else basis
        if looking:
            # ever further apart, so that slow progress is not taken for none
            check += max(1, check // 2)
            previous = values
            values = log_singular_values(product.scale[None], product.mixing[None])[0].cpu()
            if count >= size:
                return values, 0.0, left
            moved = torch.where(values == previous, 0.0, (values - previous).abs())
            change = float(moved[:judged].max())
            if change <= _TOLERANCE or done == limit:
                return values, change, left


def log_singular_values(
    scale: Float[Tensor, "batch k"], mixing: Float[Tensor, "batch k k"]
) -> Float[Tensor, "batch k"]:
    """Logarithms of the singular values of diag(exp(g)) M, decreasing, each to its own digits.

    A few QR steps bring the matrices near to diagonal; one-sided Jacobi rotations, with the norms
    of the columns kept apart as logarithms, do the rest (Demmel and Veselic 1992).

    Arguments:
        scale: g.
        mixing: M.
    """
    count = scale.shape[-1]
    parts = max(1, 2**15 // count**2)
    found: list[Tensor] = []
    for part in zip(scale.split(parts), mixing.split(parts), strict=True):
        g, rows = _swept(*part)
        largest = g.amax(-1, keepdim=True)
        near = (largest - g).amax(-1) < _NEAR
        values = torch.empty_like(g)
        if bool(near.any()):
            whole = (g - largest)[near].exp()[..., None] * rows[near]
            values[near] = torch.linalg.svdvals(whole).log() + largest[near]
        if not bool(near.all()):
            values[~near] = _rotated(g[~near], rows[~near])
        found.append(torch.where(values < _NOTHING / 2, -torch.inf, values))
    return torch.cat(found)


def _swept(scale: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Nearly orthogonal rows with the same singular values."""
    scale, rows = _normalised(scale.clamp(min=_NOTHING), rows)
    for _ in range(6):
        order = scale.argsort(-1, descending=True)
        scale = scale.gather(-1, order)
        rows = rows.gather(1, order[..., None].expand_as(rows))
        triangle = torch.linalg.qr(rows.mT)[1]
        # diag(exp(g)) L with L = R': the transposed is as good, and its rows are the columns
        terms = triangle.abs().log() + scale[:, None, :]
        scale = terms.amax(-1).clamp(min=_NOTHING)
        small = (terms - scale[..., None]).exp()
        # denormal numbers would do no harm, but slow the processor down a hundred times
        rows = triangle.sign() * torch.where(small < 1e-150, 0.0, small)
        scale, rows = _normalised(scale, rows)
    return scale, rows


def _rotated(scale: Tensor, rows: Tensor) -> Tensor:
    count = scale.shape[-1]
    eye = torch.eye(count, dtype=torch.bool, device=rows.device)
    rounds = [torch.tensor(pairs, device=rows.device) for pairs in _rounds(count)]
    for _ in range(40):
        cosines = (rows @ rows.mT).masked_fill(eye, 0.0).abs()
        gaps = -torch.expm1(-2 * (scale[..., None] - scale[..., None, :]).abs())
        # what a pair that is not orthogonal changes in the logarithms: second order, but near ties
        if float((cosines.square() / torch.maximum(gaps, cosines).clamp(min=1e-300)).max()) < 1e-13:
            break
        for pairs in rounds:
            first, second = pairs.unbind(-1)
            x, y, a, b = rows[:, first], rows[:, second], scale[:, first], scale[:, second]
            cosine = (x * y).sum(-1)
            ratio = (-(a - b).abs()).exp()
            square = ratio.square()
            # tangent of the angle over the ratio, which does not underflow where the ratio does
            below = (1 - square) + ((1 - square).square() + 4 * square * cosine.square()).sqrt()
            tangent = torch.where(cosine == 0, 0.0, -2 * cosine / below)
            shrink = (1 + (tangent * ratio).square()).rsqrt()
            of_larger, of_smaller = -tangent * square, tangent
            to_x = torch.where(a >= b, of_larger, of_smaller)
            to_y = torch.where(a >= b, of_smaller, of_larger)
            both = torch.stack([x + to_x[..., None] * y, y + to_y[..., None] * x])
            grown, both = _normalised(torch.stack([a, b]) + shrink.log(), both)
            rows[:, first], rows[:, second] = both[0], both[1]
            scale[:, first], scale[:, second] = grown[0], grown[1]
    return scale.sort(-1, descending=True).values


def _normalised(scale: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Rows of norm one, their norms put into the scale; a row of zeros stays."""
    norms = rows.norm(dim=-1)
    scale = torch.where(norms > 0, scale + norms.log(), _NOTHING)
    return scale, rows / torch.where(norms > 0, norms, 1.0)[..., None]


def _rounds(count: int) -> list[list[tuple[int, int]]]:
    """Every pair of numbers below `count` once, in rounds in which each number is in one pair."""
    players = list(range(count + count % 2))
    rounds: list[list[tuple[int, int]]] = []
    for _ in range(len(players) - 1):
        half = len(players) // 2
        pairs = zip(players[:half], reversed(players[half:]), strict=True)
        rounds.append([pair for pair in pairs if max(pair) < count])
        players = [players[0], players[-1], *players[1:-1]]
    return [pairs for pairs in rounds if pairs]
