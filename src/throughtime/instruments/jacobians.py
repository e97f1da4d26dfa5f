"""The Jacobians of a run, step by step and multiplied over lags, with bounds beside them."""

import dataclasses

import torch
from jaxtyping import Float, Int
from torch import Tensor

from throughtime.cells import ElmanCell
from throughtime.core.cell import Cell, recurrent_weight
from throughtime.core.errors import ConfigurationError
from throughtime.foreign.recording import Recording
from throughtime.instruments.products import (
    SMALL,
    LinearisedRun,
    graded,
    leading_count,
    leading_log_singular_values,
    linearise,
    log_singular_values,
    multiplied,
    multiplied_out,
    orthonormal,
)
from throughtime.results.record import Record

DENSE = 512  # up to this size a step's Jacobian is decomposed in full, at some of the steps
_WORK = 2**31  # size cubed times steps: some seconds of decompositions
_SHORT = 48  # up to so many steps of them, products are multiplied out
_DIGITS = 18.0  # logarithm of the ratio up to which singular values so found keep 8 digits


@dataclasses.dataclass(frozen=True, eq=False)
class Jacobians(Record):
    """J_t = ds_t/ds_{t-1} along one sequence, s the whole state of a cell. In float64.

    Attributes:
        layer: name of the recurrent layer within the model.
        level: number of the cell in its stack, from the bottom.
        sequence: number of the sequence within the batch.
        size: width of s.
        norms: ||J_t||, the largest singular value, of every step.
        measured: the steps, from 0, that the next three are of: all of a small state, some at equal
            distances of a large one.
        singular_values: singular values of J_t, decreasing.
        spectral_radius: the largest |eigenvalue| of J_t; None for states wider than 512.
        non_normality: Henrici's departure (||J||_F^2 - sum |eigenvalue|^2) / ||J||_F^2 of J_t, from
            0, normal, to 1, nilpotent; None likewise.
        lags: numbers of steps n that the products have, increasing.
        log_products: natural logarithms of the singular values of J_T ... J_{T-n+1}, T the
            sequence's last step; decreasing along k; -inf for zero.
        uncertainty: last change of each lag's logarithms under iteration; 0 where they
            come from a full decomposition.
        log_norm_bound: bound of log ||J_T ... J_{T-n+1}||: the sum of the steps' log ||J_t||.
        log_power_bound: n log(alpha beta), alpha = ||W_hh|| and beta = max |f'|; None for a cell
            that is not a simple recurrent network with lag 1.
        log_hochreiter_bound: log(m (beta ||W_hh||_A)^n) for m units, ||.||_A the largest absolute
            row sum; None likewise.
        cut: the lag from which on products are exactly zero, and left out, since the step
            T - cut + 1 starts afresh; None if no step does.
    """

    layer: str
    level: int
    sequence: int
    size: int
    norms: Float[Tensor, " time"]
    measured: Int[Tensor, " measured"]
    singular_values: Float[Tensor, "measured k"]
    spectral_radius: Float[Tensor, " measured"] | None
    non_normality: Float[Tensor, " measured"] | None
    lags: Int[Tensor, " lags"]
    log_products: Float[Tensor, "lags k"]
    uncertainty: Float[Tensor, " lags"]
    log_norm_bound: Float[Tensor, " lags"]
    log_power_bound: Float[Tensor, " lags"] | None
    log_hochreiter_bound: Float[Tensor, " lags"] | None
    cut: int | None

    @property
    def log_norm(self) -> Float[Tensor, " lags"]:
        """log ||J_T ... J_{T-n+1}|| by lag: how the largest change of the past has fared."""
        return self.log_products[:, 0]


def jacobians(
    recording: Recording,
    *,
    sequence: int = 0,
    top: int | None = None,
    longest: int | None = None,
    seed: int = 0,
) -> Jacobians:
    """Measure how each step, and how many in a row, stretch and shrink changes of the state.

        J_t = ds_t/ds_{t-1}          ds_T/ds_{T-n} = J_T ... J_{T-n+1}

    All valid steps of the sequence count, to its last one, T. They are linearised in float64 at the
    recorded states. A step that starts afresh does not depend on the state before: its J_t, and
    every product that has it as a factor, is zero. Where the model itself makes another state of
    the cell's between two calls, lags end, for its own Jacobian is not known. A state that was
    passed on without its graph is passed on all the same.

    Products neither overflow nor lose their small singular values: their QR factors are kept with
    their scales as logarithms. What a single step shrinks by more than 1e-16 of its norm is known
    to be that small, but not how small. Of states wider than 64 the leading values come from
    randomised subspace iteration, which never exceeds them.

    Arguments:
        recording: recording of a cell.
        sequence: number of the sequence within its batch.
        top: number of singular values; all if the state's size is at most 64, else 16, if None.
        longest: the largest lag; all steps if None. Lags are every one up to it while that is
            cheap, else some in geometric progression: about 12 of a state wider than 64.
        seed: seed of the random directions that iterations start from.

    Returns:
        Singular values, eigenvalue measures, products by lag, and bounds of the products.

    Raises:
        ConfigurationError: no such sequence, `top` or `longest` out of range, or states that are
            not finite.

    Example:
        >>> import throughtime as tt
        >>> from throughtime.instruments import record
        >>> model = tt.RNN(1, 8)
        >>> recording = record(model, lambda: model(torch.ones(20, 2, 1))[0].sum())
        >>> result = jacobians(recording)
        >>> result.singular_values.shape, result.log_products.shape
        (torch.Size([20, 8]), torch.Size([20, 8]))
        >>> bool((result.log_norm <= result.log_norm_bound + 1e-9).all())
        True

    Source: the product and its bounds are those of Hochreiter and Schmidhuber (1997) and Pascanu et
    al. (2013); the departure from normality is Henrici's (1962).
    """
    run = linearise(recording, sequence)
    count = leading_count(top, run.size)
    if longest is not None and longest < 1:
        raise ConfigurationError("longest", got=longest, expected="at least 1 step")
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        norms = _norms(run, generator)
        steps = _measured_steps(run)
        values, radius, departure = _steps(run, steps, count, generator)
        cut = run.steps - run.resets[-1] if run.resets else None
        known = run.steps - max(run.changes, default=0)
        furthest = min(known, run.steps if cut is None else cut - 1, longest or run.steps)
        lags = _lags(furthest, run.size)
        logs, uncertainty = _products(run, lags, count, generator)
        sums = norms.log().flip(0).cumsum(0)
        power, hochreiter = _bounds(recording.cell, lags)
    index = torch.tensor(lags, dtype=torch.int64, device="cpu")
    return Jacobians(
        layer=recording.layer,
        level=recording.level,
        sequence=sequence,
        size=run.size,
        norms=norms,
        measured=torch.tensor(steps, dtype=torch.int64, device="cpu"),
        singular_values=values,
        spectral_radius=radius,
        non_normality=departure,
        lags=index,
        log_products=logs,
        uncertainty=uncertainty,
        log_norm_bound=sums[index - 1],
        log_power_bound=power,
        log_hochreiter_bound=hochreiter,
        cut=cut,
    )


def _spaced(longest: int, count: int) -> list[int]:
    """Up to so many whole numbers from 1 to the longest, in geometric progression."""
    points, found = count, list(range(1, min(longest, count) + 1))
    while longest > count and (points == count or len(found) < count):
        found = sorted({round(longest ** (k / (points - 1))) for k in range(points)})
        points += 1  # the smallest ones coincide
    return found


def _lags(longest: int, size: int) -> list[int]:
    return _spaced(longest, 12 if size > SMALL else max(12, _WORK // 40 // max(size, 16) ** 3))


def _measured_steps(run: LinearisedRun) -> list[int]:
    count = min(run.steps, run.steps if run.size <= SMALL else max(4, _WORK // 4 // run.size**3))
    return [round(k * (run.steps - 1) / max(1, count - 1)) for k in range(count)]


def _norms(run: LinearisedRun, generator: torch.Generator) -> Float[Tensor, " time"]:
    """||J_t|| of every step."""
    found: list[Tensor] = []
    for start in range(0, run.steps, 64):
        at = slice(start, min(run.steps, start + 64))
        if run.size <= SMALL:
            found.append(torch.linalg.matrix_norm(run.dense(at), 2))
        else:
            found.append(_lanczos_norms(run, at, generator))
    norms = torch.cat(found).cpu()
    norms[list(run.resets)] = 0.0
    return norms


def _lanczos_norms(run: LinearisedRun, at: slice, generator: torch.Generator) -> Tensor:
    """||J_t|| of some steps at once, by Golub-Kahan bidiagonalisation J V = U B.

    Rounding makes the columns of U and V less than orthogonal, which gives copies of the largest
    singular value and does not move it.
    """
    count, limit = at.stop - at.start, 192
    v = torch.randn(count, run.size, dtype=torch.float64, generator=generator).to(run.device)
    v, _ = _unit(v)
    u, beta = torch.zeros_like(v), v.new_zeros(count)
    b = v.new_zeros(count, limit + 1, limit + 1)
    norms, check = beta, 16
    for j in range(limit):
        u, b[:, j, j] = _unit(run.pushforward(at, v[None])[0] - beta[:, None] * u)
        v, beta = _unit(run.pullback(at, u[None])[0] - b[:, j, j, None] * v)
        b[:, j, j + 1] = beta
        if j + 1 in (check, limit):
            check += check // 2
            square = b[:, : j + 1, : j + 1] @ b[:, : j + 1, : j + 1].mT
            # the largest eigenvalue alone: cheaper than a norm, and squaring costs it no digits
            previous, norms = norms, torch.linalg.eigvalsh(square)[:, -1].clamp(min=0).sqrt()
            if bool(((norms - previous) <= 1e-9 * norms).all()):
                break
    return norms


def _unit(v: Tensor) -> tuple[Tensor, Tensor]:
    norms = v.norm(dim=-1)
    return v / torch.where(norms > 0, norms, 1.0)[:, None], norms


def _start(run: LinearisedRun, count: int, generator: torch.Generator) -> Tensor:
    """Orthonormal rows for iteration, half as many again as are wanted; all there are if few."""
    more = min(run.size, count + max(8, count // 2))
    if more == run.size or run.size <= SMALL:
        return torch.eye(run.size, dtype=torch.float64, device=run.device)
    rows = torch.randn(more, run.size, dtype=torch.float64, generator=generator)
    return orthonormal(rows.to(run.device))


def _steps(
    run: LinearisedRun, steps: list[int], count: int, generator: torch.Generator
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Singular values, spectral radius and departure from normality of single steps."""
    if run.size > DENSE:
        start = _start(run, count, generator)
        rows = [leading_log_singular_values(run, t, t + 1, start)[0][:count] for t in steps]
        values = torch.stack(rows).exp()
        values[[t in run.resets for t in steps]] = 0.0
        return values, None, None
    found: list[tuple[Tensor, Tensor, Tensor]] = []
    for t in steps:
        matrix = run.dense(slice(t, t + 1))[0] * (t not in run.resets)
        singular = torch.linalg.svdvals(matrix)
        moduli = torch.linalg.eigvals(matrix).abs()
        total = singular.square().sum()
        departure = (total - moduli.square().sum()) / torch.where(total > 0, total, 1.0)
        found.append((singular[:count].cpu(), moduli.max().cpu(), departure.clamp(0, 1).cpu()))
    values, radius, departure = (torch.stack(parts) for parts in zip(*found, strict=True))
    return values, radius, departure


def _products(
    run: LinearisedRun, lags: list[int], count: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Logarithms of the products' singular values by lag, and how much they last changed."""
    left = _start(run, count, generator)
    stop = run.steps
    if left.shape[0] < run.size:
        rows: list[Tensor] = []
        changes: list[float] = []
        short = multiplied_out(run, [n for n in lags if n <= _SHORT and run.size <= DENSE])
        for lag in lags:
            if lag in short:
                values, vectors = short[lag]
                left = vectors[: left.shape[0]]
                if values[count - 1] > values[0] - _DIGITS:
                    rows.append(values[:count])
                    changes.append(0.0)
                    continue
            # the left subspace of one lag is near that of the next
            values, change, left = leading_log_singular_values(run, stop - lag, stop, left)
            rows.append(values[:count])
            changes.append(change)
        logs = torch.stack(rows) if rows else torch.zeros(0, count, dtype=torch.float64)
        return logs, torch.tensor(changes, dtype=torch.float64, device="cpu")
    matrix = graded(left)  # of the transposed product: its factors come on from the left
    scales = left.new_zeros(len(lags), run.size)
    mixings = left.new_zeros(len(lags), run.size, run.size)
    wanted = {lag: k for k, lag in enumerate(lags)}
    for lag in range(1, max(lags, default=0) + 1):
        at = slice(stop - lag, stop - lag + 1)
        matrix = multiplied(matrix, run.pullback(at, matrix.basis[:, None])[:, 0])
        if lag in wanted:
            scales[wanted[lag]], mixings[wanted[lag]] = matrix.scale, matrix.mixing
    logs = log_singular_values(scales, mixings) if lags else scales
    return logs[:, :count].cpu(), torch.zeros(len(lags), dtype=torch.float64, device="cpu")


def _bounds(cell: Cell, lags: list[int]) -> tuple[Tensor | None, Tensor | None]:
    """log (alpha beta)^n and log m (beta ||W||_A)^n for a simple recurrent network.

    Hochreiter and Schmidhuber bound single entries of the product in any norm A whose vector norm
    is at least the largest entry. With A the largest absolute row sum, which they take as well,
    ||P|| <= sqrt(m) ||P||_A <= m (beta ||W||_A)^n, so that it bounds the norm, too.
    """
    if not isinstance(cell, ElmanCell) or cell.lags != (1,):
        return None, None
    weight = getattr(cell, recurrent_weight(1)).detach().double().cpu()
    steps = torch.tensor(lags, dtype=torch.float64, device="cpu")
    # beta = 1: the largest slope of tanh, ReLU and the identity
    alpha = torch.linalg.matrix_norm(weight, 2)
    largest_row = torch.linalg.matrix_norm(weight, torch.inf)
    units = torch.tensor(float(cell.hidden_size), dtype=torch.float64, device="cpu")
    return steps * alpha.log(), units.log() + steps * largest_row.log()
