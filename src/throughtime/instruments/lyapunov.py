"""Lyapunov exponents: how fast small changes of a state grow or die out along a trajectory."""

import dataclasses
from collections.abc import Callable, Iterator
from itertools import pairwise

import torch
from jaxtyping import Float, Int
from torch import Tensor

from throughtime.core.errors import ConfigurationError
from throughtime.foreign.recording import Recording
from throughtime.instruments.products import SMALL, LinearisedRun, leading_count, linearise
from throughtime.results.record import Record

_CHUNK = 128


@dataclasses.dataclass(frozen=True, eq=False)
class LyapunovSpectrum(Record):
    """Rates at which a trajectory's neighbours part from it, direction by direction. In float64.

    Attributes:
        exponents: natural logarithms per step, decreasing; -inf where a direction is lost at once.
        standard_errors: standard errors of the exponents, by blocks: the counted steps are cut into
            up to 16 blocks of equal length, at least 8 steps each, and the standard deviation of
            the blocks' means is divided by the root of their number. It takes correlations to be
            shorter than a block. NaN with fewer than 2 blocks.
        kaplan_yorke: dimension of the attractor by the conjecture of Kaplan and Yorke: the number
            of leading exponents whose sum is still positive, and a fraction of the next. None if
            the exponents that were computed all sum to more than zero and are not all there are.
        size: width of the state, and number of all exponents.
        steps: number of steps that were counted.
        burn_in: number of steps before them, which only turned the directions.
        first: the step of the trajectory, from 0, at which burn-in begins.
        history_steps: numbers of counted steps, increasing, at most 200 of them.
        history: the exponents as they stood after that many.
    """

    exponents: Float[Tensor, " k"]
    standard_errors: Float[Tensor, " k"]
    kaplan_yorke: float | None
    size: int
    steps: int
    burn_in: int
    first: int
    history_steps: Int[Tensor, " points"]
    history: Float[Tensor, "points k"]


def lyapunov_spectrum(
    recording: Recording,
    *,
    sequence: int = 0,
    top: int | None = None,
    burn_in: int | None = None,
    seed: int = 0,
) -> LyapunovSpectrum:
    """The Lyapunov exponents of a recurrent cell along one sequence that it ran through.

        J_t Q_{t-1} = Q_t R_t        exponent_i = mean over t of log |R_t[i, i]|

    The steps are linearised in float64 at the recorded states, inputs included: these are exponents
    of the driven network, given this input. Where steps start afresh, or from a state that the
    model itself made of the cell's, the longest stretch between them is taken. Exponents below
    about -36 a step are rounding: the direction is lost.

    Arguments:
        recording: recording of a cell.
        sequence: number of the sequence within its batch; its valid steps count.
        top: number of exponents, from the largest; all if the state's size is at most 64, else 16,
            if None.
        burn_in: steps of the stretch that are not counted; a tenth of them, 100 at most, if None.
        seed: seed of the random directions that it starts from.

    Returns:
        Exponents in nats per step, with errors.

    Raises:
        ConfigurationError: no such sequence, `top` or `burn_in` out of range, or states that are
            not finite.

    Example:
        >>> import throughtime as tt
        >>> from throughtime.instruments import record
        >>> model = tt.RNN(1, 8)
        >>> recording = record(model, lambda: model(torch.ones(50, 2, 1))[0].sum())
        >>> spectrum = lyapunov_spectrum(recording)
        >>> spectrum.exponents.shape, spectrum.steps, spectrum.kaplan_yorke
        (torch.Size([8]), 45, 0.0)

    Source: Benettin et al. (1980); of recurrent networks, Engelken et al. (2023).
    """
    run = linearise(recording, sequence)
    count = leading_count(top, run.size)
    bounds = pairwise(sorted({0, *run.resets, *run.changes, run.steps}))
    start, stop = max(bounds, key=lambda b: b[1] - b[0])
    length = stop - start
    skipped = min(length // 10, 100) if burn_in is None else burn_in
    if not 0 <= skipped < length:
        raise ConfigurationError(
            "burn_in", got=skipped, expected=f"fewer than the {length} steps without a reset"
        )

    def maps() -> Iterator[Callable[[Tensor], Tensor]]:
        for t in range(start, stop, _CHUNK):
            at = slice(t, min(stop, t + _CHUNK))
            if run.size <= SMALL:
                yield from (_by(matrix) for matrix in run.dense(at))
            else:
                yield from (_along(run, step) for step in range(t, at.stop))

    local = _local(
        maps(), run.size, count, seed, like=torch.zeros(0, dtype=torch.float64, device=run.device)
    )
    return _summary(local, run.size, skipped, start)


def lyapunov_exponents(
    step: Callable[[Tensor], Tensor],
    start: Float[Tensor, " size"],
    steps: int,
    *,
    top: int | None = None,
    burn_in: int | None = None,
    seed: int = 0,
) -> LyapunovSpectrum:
    """The Lyapunov exponents of any map of a vector, along the trajectory from one start.

    As `lyapunov_spectrum`, with J_t the derivative of the map at s_{t-1}.

    Arguments:
        step: s_t from s_{t-1}, (size,) to (size,), of torch's operations, pure, and without
            branches on values: `torch.func` differentiates it at many states at once.
        start: s_0. Its dtype is the one that is computed in; float64 is advised.
        steps: number of steps that are counted, at least 1.
        top: number of exponents, from the largest; all if the state's size is at most 64, else 16,
            if None.
        burn_in: steps before those that are counted, to reach the attractor and turn the
            directions; a tenth as many again if None.
        seed: seed of the random directions that it starts from.

    Returns:
        Exponents in nats per step, with errors.

    Raises:
        ConfigurationError: `start` is no vector of floats, the map does not keep its shape, a
            number out of range, or a trajectory that leaves the finite numbers.

    Example:
        >>> logistic = lambda x: 4 * x * (1 - x)
        >>> start = torch.tensor([0.3], dtype=torch.float64)
        >>> spectrum = lyapunov_exponents(logistic, start, 2000)
        >>> round(float(spectrum.exponents), 2)  # ln 2 = 0.693...
        0.69
    """
    if start.dim() != 1 or not start.is_floating_point():
        raise ConfigurationError(
            "start", got=f"{tuple(start.shape)} of {start.dtype}", expected="a vector of floats"
        )
    skipped = steps // 10 if burn_in is None else burn_in
    if steps < 1 or skipped < 0:
        raise ConfigurationError(
            "steps", got=f"{steps} after {skipped}", expected="at least 1 after at least 0"
        )
    size = start.shape[0]
    count = leading_count(top, size)

    def maps() -> Iterator[Callable[[Tensor], Tensor]]:
        state = start.detach()
        for t in range(0, skipped + steps, _CHUNK):
            states: list[Tensor] = []
            for _ in range(min(_CHUNK, skipped + steps - t)):
                states.append(state)
                state = step(state)
                if state.shape != start.shape:
                    raise ConfigurationError(
                        "step", got=f"a result of shape {tuple(state.shape)}", expected=f"({size},)"
                    )
            points = torch.stack(states)
            if not bool(points.isfinite().all() & state.isfinite().all()):
                raise ConfigurationError(
                    "step",
                    got=f"a trajectory that is not finite, at step {t + 1} or soon after",
                    expected="one that stays finite",
                )
            if size <= SMALL:
                matrices = torch.func.vmap(torch.func.jacfwd(step))(points)
                yield from (_by(matrix) for matrix in matrices)
            else:
                yield from (_through(step, point) for point in points)

    with torch.no_grad():
        local = _local(maps(), size, count, seed, start)
    return _summary(local, size, skipped, 0)


def _by(matrix: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda rows: rows @ matrix.T


def _along(run: LinearisedRun, t: int) -> Callable[[Tensor], Tensor]:
    return lambda rows: run.pushforward(slice(t, t + 1), rows[:, None])[:, 0]


def _through(step: Callable[[Tensor], Tensor], point: Tensor) -> Callable[[Tensor], Tensor]:
    def along(vector: Tensor) -> Tensor:
        return torch.func.jvp(step, (point,), (vector,))[1]

    return torch.func.vmap(along)


def _local(
    maps: Iterator[Callable[[Tensor], Tensor]], size: int, count: int, seed: int, like: Tensor
) -> Float[Tensor, "time k"]:
    """log |R_t[i, i]| of every step."""
    generator = torch.Generator().manual_seed(seed)
    # one by one, so that the first are the same however many there are
    drawn = [torch.randn(size, dtype=torch.float64, generator=generator) for _ in range(count)]
    basis = torch.linalg.qr(torch.stack(drawn, 1).to(like))[0]
    diagonals: list[Tensor] = []
    for push in maps:
        basis, triangle = torch.linalg.qr(push(basis.T).T)
        diagonals.append(triangle.diagonal())
    return torch.stack(diagonals).double().abs().log().cpu()


def _summary(
    local: Float[Tensor, "time k"], size: int, burn_in: int, first: int
) -> LyapunovSpectrum:
    counted = local[burn_in:]
    steps = counted.shape[0]
    exponents = counted.mean(0)
    order = exponents.argsort(descending=True)
    exponents = exponents[order]
    points = torch.linspace(1, steps, min(steps, 200), dtype=torch.float64, device="cpu")
    points = points.round().to(torch.int64)
    running = counted[:, order].cumsum(0)[points - 1] / points[:, None]
    return LyapunovSpectrum(
        exponents=exponents,
        standard_errors=_standard_errors(counted[:, order]),
        kaplan_yorke=_kaplan_yorke(exponents.tolist(), size),
        size=size,
        steps=steps,
        burn_in=burn_in,
        first=first,
        history_steps=points,
        history=running,
    )


def _standard_errors(local: Float[Tensor, "time k"]) -> Float[Tensor, " k"]:
    """Errors of the means over time, from those of full blocks."""
    blocks = min(16, local.shape[0] // 8)
    if blocks < 2:
        return torch.full_like(local[0], torch.nan)
    means = torch.stack([block.mean(0) for block in local.split(local.shape[0] // blocks)[:blocks]])
    return means.std(0) / blocks**0.5


def _kaplan_yorke(exponents: list[float], size: int) -> float | None:
    """j + (lambda_1 + ... + lambda_j) / |lambda_{j+1}|, j the most whose sum is not negative."""
    total = 0.0
    for j, exponent in enumerate(exponents):
        if total + exponent < 0:
            return j + total / -exponent
        total += exponent
    return float(size) if len(exponents) == size else None
