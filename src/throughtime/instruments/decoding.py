"""Decoding memory: how well past inputs can be read off the state by a linear map."""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from throughtime.core.errors import ConfigurationError
from throughtime.core.jacobian import Dynamics
from throughtime.foreign.recording import Recording
from throughtime.results.record import Record

PENALTIES = (1e-10, 1e-8, 1e-6, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 1e3)
"""Of the squared weights, per sample, with units of variance one."""


@dataclasses.dataclass(frozen=True, eq=False)
class MemoryDecoding(Record):
    """The accuracy with which x_{t-k} is decoded from s_t, by lag k. All in float64.

    Attributes:
        layer: name of the recurrent layer within the model.
        level: level of the cell, from the bottom.
        direction: 0 forward, 1 reverse.
        lags: k, increasing.
        r2: 1 - squared error / squared error of the training mean, on sequences that were not
            trained on; below 0 where decoding is worse than that mean, NaN where a target does not
            vary.
        null_level: level that 95 % of the R^2 stay below where the states are those of other
            sequences, by lag.
        penalty: the chosen penalty, geometric mean over folds.
        samples: steps of all sequences that were decoded.
        size: width of s.
    """

    layer: str
    level: int
    direction: int
    lags: Int[Tensor, " lags"]
    r2: Float[Tensor, "lags targets"]
    null_level: Float[Tensor, " lags"]
    penalty: Float[Tensor, "lags targets"]
    samples: int
    size: int

    @property
    def capacity(self) -> float:
        """Memory capacity: the sum of max(R^2, 0) over the lags measured and all targets.

        For white input it is at most the number of units (Jaeger 2001), whose sum begins at lag 1.
        """
        return float(self.r2.clamp(min=0).nansum())

    def reach(self) -> int | None:
        """The longest lag at which some target's R^2 is above the null level; None if none is."""
        decoded = (self.r2 > self.null_level[:, None]).any(1)
        return int(self.lags[decoded].max()) if bool(decoded.any()) else None


def memory_decoding(
    recording: Recording,
    *,
    lags: Sequence[int],
    targets: Float[Tensor, "time batch target"] | None = None,
    folds: int = 5,
    penalties: Sequence[float] = PENALTIES,
    permutations: int = 20,
    samples: int = 20_000,
    seed: int = 0,
) -> MemoryDecoding:
    """Decode the inputs of k steps ago from the state by ridge regression, for all lags at once.

        min over W, b of  sum over t of (x_{t-k} - W s_t - b)^2 + penalty * n * |W|^2

    s_t is the whole state, each unit scaled to variance one. All lags share the steps t from the
    longest lag on. Sequences are dealt into folds: each is decoded by weights of the others, with
    the penalty that is best across those others, for each lag and target; no sequence is ever in
    both parts. Orthogonal factors of each fold stand for its samples, so that what takes long is
    done once, and conditions are not squared.

    Arguments:
        recording: recording of any cell; sequences no longer than the longest lag are left out.
        lags: k, from 0.
        targets: values to decode instead of the inputs, at t - k too; their padding is not read.
        folds: number of folds, at least 3.
        penalties: one penalty or more, each above 0.
        permutations: number of permutations of the sequences for the null level, at least 1: states
            are paired with the targets of other sequences, and all is done again. A shorter one
            begins again.
        samples: largest number of steps, drawn at random.
        seed: seed of folds, permutations and steps.

    Returns:
        R^2 by lag and target, on the CPU.

    Raises:
        ConfigurationError: a number out of range, targets of another shape, fewer long sequences
            than folds, or values that are not finite.

    Example:
        >>> from throughtime.foreign.recording import record
        >>> x, model = torch.randn(40, 20, 1), torch.nn.RNN(1, 8)
        >>> recording = record(model, lambda: model(x)[0].sum())
        >>> decoding = memory_decoding(recording, lags=range(6))
        >>> bool(decoding.r2[0, 0] > 0.9), decoding.capacity <= 8
        (True, True)

    Source: H. Jaeger, "Short term memory in echo state networks", GMD report 152 (2001).

    Differs from the report in: R^2 is that of sequences not trained on, in place of the squared
    correlation; lag 0 counts if it is given.
    """
    at = sorted(set(lags))
    source = recording.inputs if targets is None else targets
    if source.shape[:2] != recording.inputs.shape[:2]:
        raise ConfigurationError(
            "targets",
            got=f"shape {tuple(source.shape)}",
            expected=f"({recording.time}, {recording.batch}, width)",
        )
    if not at or at[0] < 0:
        raise ConfigurationError("lags", got=list(lags), expected="at least one, from 0")
    if folds < 3 or permutations < 1 or samples < 1:
        raise ConfigurationError(
            "memory_decoding",
            got=f"folds={folds}, permutations={permutations}, samples={samples}",
            expected="at least 3, 1 and 1",
        )
    if not penalties or min(penalties) <= 0:
        raise ConfigurationError("penalties", got=penalties, expected="one or more, above 0")
    generator = torch.Generator().manual_seed(seed)
    lengths = recording.valid_lengths()
    usable = (lengths > at[-1]).nonzero()[:, 0]
    if len(usable) < folds:
        raise ConfigurationError(
            "recording",
            got=f"{len(usable)} sequences longer than {at[-1]} steps",
            expected=f"at least {folds}, one a fold",
            fix="Record a larger batch, or ask for shorter lags.",
        )
    usable = usable[torch.randperm(len(usable), generator=generator)]
    rows = _rows(lengths[usable] - at[-1], samples, generator)
    t, place = rows.t + at[-1], rows.place
    device = recording.inputs.device

    def read(grid: Tensor, t: Tensor, b: Tensor, name: str) -> Tensor:
        values = grid[t.to(device), b.to(device)].double()
        if not bool(values.isfinite().all()):
            raise ConfigurationError(name, got="values that are not finite", expected="finite ones")
        return values

    flat = Dynamics(recording.cell).flatten(recording.states)
    s = _standardised(read(flat, t, usable[place], "states"))
    ones = torch.ones(len(t), 1, dtype=torch.float64, device=device)
    s = torch.cat([ones, s], 1)
    lag = torch.tensor(at)

    def past(t: Tensor, b: Tensor) -> Tensor:
        """x_{t-k}: (samples, lags * targets)."""
        return read(source.to(device), t[:, None] - lag, b[:, None], "targets").flatten(1)

    y = past(t, usable[place])
    mean, scale = y.mean(0), y.std(0, correction=0)
    varies = scale > 1e-12 * y.square().mean(0).sqrt()

    def standard(y: Tensor) -> Tensor:
        return (y - mean) / scale.where(varies, 1.0)

    pooled: list[Tensor] = []
    factors = _factors(s, place % folds, folds)
    r2, penalty = _cross_validated(factors, standard(y), penalties)
    width, remaining = source.shape[-1], lengths[usable] - at[-1]
    for _ in range(permutations):
        # a cyclic shift of a random order: nobody keeps his own
        order = torch.randperm(len(usable), generator=generator)
        other = torch.empty_like(order).index_copy(0, order, order.roll(1))[place]
        shifted = at[-1] + rows.t % remaining[other]
        null = standard(past(shifted, usable[other]))
        pooled.append(_cross_validated(factors, null, penalties)[0])
    nulls = torch.stack(pooled).where(varies, torch.nan).unflatten(1, (len(at), width))
    return MemoryDecoding(
        layer=recording.layer,
        level=recording.level,
        direction=recording.direction,
        lags=lag,
        r2=r2.where(varies, torch.nan).unflatten(0, (len(at), width)).cpu(),
        null_level=nulls.transpose(0, 1).flatten(1).nanquantile(0.95, dim=1).cpu(),
        penalty=penalty.unflatten(0, (len(at), width)).cpu(),
        samples=len(t),
        size=flat.shape[-1],
    )


class _Rows(NamedTuple):
    """The samples: step and place of the sequence among those used."""

    t: Int[Tensor, " samples"]
    place: Int[Tensor, " samples"]


def _rows(steps: Tensor, most: int, generator: torch.Generator) -> _Rows:
    """All steps of all sequences, or as many drawn at random; each sequence keeps one."""
    place = torch.arange(len(steps)).repeat_interleave(steps)
    t = torch.cat([torch.arange(int(n)) for n in steps])
    if len(t) > most:
        drawn = torch.randperm(len(t), generator=generator)
        first = torch.zeros(len(t), dtype=torch.bool)
        first[steps.cumsum(0) - 1] = True
        # stable: those that must stay come first
        drawn = drawn[first[drawn].to(torch.int8).argsort(descending=True, stable=True)]
        kept = drawn[: max(most, len(steps))].sort().values
        t, place = t[kept], place[kept]
    return _Rows(t, place)


def _standardised(s: Float[Tensor, "samples size"]) -> Float[Tensor, "samples size"]:
    """Units of mean zero and variance one; zeros for those that do not vary."""
    centred = s - s.mean(0)
    scale = centred.square().mean(0).sqrt()
    varies = scale > 1e-12 * s.square().mean(0).sqrt()
    return torch.where(varies, centred / scale.where(varies, 1.0), 0.0)


class _Fold(NamedTuple):
    """The samples of one fold, (1, s) = Q R; R is padded with zeros to be square."""

    at: Tensor
    q: Tensor
    r: Tensor


class _Training(NamedTuple):
    """All samples outside some folds: their stacked R = Q R, and its part of the units = U S V'.

    `offset` is its first row, and `turned` R of each fold left out, both of the units and times V.
    """

    folds: list[int]
    q: Tensor
    r: Tensor
    u: Tensor
    singular: Tensor
    offset: Tensor
    turned: dict[int, Tensor]
    samples: int


class _Factors(NamedTuple):
    folds: list[_Fold]
    outer: list[_Training]
    inner: dict[tuple[int, int], _Training]


def _factors(s: Tensor, fold: Tensor, count: int) -> _Factors:
    """Factors of every fold, and of the training sets without one fold and without two."""
    folds: list[_Fold] = []
    for f in range(count):
        at = (fold == f).nonzero()[:, 0].to(s.device)
        q, r = torch.linalg.qr(s[at])
        missing = s.shape[1] - r.shape[0]
        folds.append(_Fold(at, q, F.pad(r, (0, 0, 0, missing))))

    def without(*left: int) -> _Training:
        kept = [f for f in range(count) if f not in left]
        q, r = torch.linalg.qr(torch.cat([folds[f].r for f in kept]))
        u, singular, vh = torch.linalg.svd(r[1:, 1:])
        samples = sum(len(folds[f].at) for f in kept)
        turned = {g: folds[g].r[:, 1:] @ vh.T for g in left}
        return _Training(kept, q, r, u, singular, r[:1, 1:] @ vh.T, turned, samples)

    pairs = [(f, g) for f in range(count) for g in range(f)]
    return _Factors(folds, [without(f) for f in range(count)], {p: without(*p) for p in pairs})


def _cross_validated(
    factors: _Factors, y: Tensor, penalties: Sequence[float]
) -> tuple[Tensor, Tensor]:
    """R^2 of each column of y, and the penalty that was chosen."""
    folds, count = factors.folds, len(factors.folds)
    parts = [fold.q.T @ y[fold.at] for fold in folds]
    # what no linear map of the fold's states can give
    rests = [(y[f.at] - f.q @ c).square().sum(0) for f, c in zip(folds, parts, strict=True)]
    parts = [
        F.pad(c, (0, 0, 0, f.r.shape[0] - c.shape[0])) for f, c in zip(folds, parts, strict=True)
    ]
    grid = torch.tensor(penalties, dtype=y.dtype, device=y.device)

    def target(training: _Training) -> Tensor:
        return training.q.T @ torch.cat([parts[f] for f in training.folds])

    def errors(training: _Training, g: int, penalty: Tensor) -> Tensor:
        """Squared errors of fold g: (choices, columns), for penalties that broadcast to that."""
        c, r = target(training), folds[g].r
        squares = training.singular[:, None, None].square() + penalty * training.samples
        ridge = training.singular[:, None, None] / squares
        w = ridge * (training.u.T @ c[1:])[:, None]
        b = (c[:1, None] - torch.tensordot(training.offset, w, 1)) / training.r[0, 0]
        given = torch.tensordot(training.turned[g], w, 1) + torch.tensordot(r[:, :1], b, 1)
        return rests[g] + (parts[g][:, None] - given).square().sum(0)

    error, total, chosen = torch.zeros(3, *rests[0].shape, dtype=y.dtype, device=y.device)
    for f, training in enumerate(factors.outer):
        inner = [
            errors(factors.inner[max(f, g), min(f, g)], g, grid[:, None]) for g in training.folds
        ]
        penalty = grid[torch.stack(inner).sum(0).argmin(0)]
        error = error + errors(training, f, penalty)[0]
        mean = target(training)[:1] / training.r[0, 0]
        total = total + rests[f] + (parts[f] - folds[f].r[:, :1] @ mean).square().sum(0)
        chosen = chosen + penalty.log() / count
    return 1 - error / total, chosen.exp()
