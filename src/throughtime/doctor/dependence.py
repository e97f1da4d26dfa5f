"""Dependence of targets on inputs by lag, from the data alone: nothing is trained."""

import dataclasses
import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

_PERMUTATIONS = 79
_LEVEL = 2e-4  # of each test; there is one for each doubling of the lag
_ROUNDS = 8  # inputs of one range of lags that are taken in turn
_SHARE = 0.25  # of what all lags explain: the least that the lag and older ones must explain
_PRODUCTS, _RANKS = 6, 8  # features up to which products of two, and ranks, are formed
_MOST_CLASSES, _MOST_COLUMNS = 32, 16
_MOST_TOKENS, _RATES = 10_000, 4  # of larger vocabularies; columns of targets whose rates are taken
_MOST_ROWS, _MOST_NUMBERS = 4000, 20_000_000
_LEAST_SEQUENCES = 16
_NEW = 1e-3  # of an input's variance: the least that newer inputs must leave unexplained
_EULER = 0.5772156649


@dataclasses.dataclass(frozen=True, eq=False)
class Pairs:
    """Inputs and targets of sequences that are independent of each other.

    Attributes:
        inputs: features of each step; NaN where a sequence has no such step.
        targets: targets at some steps; NaN where there is none.
        times: steps of the targets.
        classes: If True, the targets are numbers of classes.
    """

    inputs: Float[Tensor, "time sequences features"]
    targets: Float[Tensor, "steps sequences columns"]
    times: Int[Tensor, " steps"]
    classes: bool


@dataclasses.dataclass(frozen=True)
class Part:
    """Part of the targets' variance that the inputs of one lag explain.

    Attributes:
        start, end: first and last lag; they differ where a sum over a range of lags explains it.
        share: share of the variance that newer inputs leave unexplained and these explain.
    """

    start: int
    end: int
    share: float

    @property
    def correlation(self) -> float:
        """Correlation with the targets; for classes, the correlation ratio."""
        return math.sqrt(self.share)


@dataclasses.dataclass(frozen=True)
class Dependence:
    """Dependence of targets on inputs by lag.

    Attributes:
        parts: parts that are significant, the newest first.
        sequences: number of sequences that were compared.
    """

    parts: tuple[Part, ...]
    sequences: int

    @property
    def found(self) -> bool:
        """True if the targets depend on an input, linearly, by class, by rank or by a product."""
        return bool(self.parts)

    @property
    def oldest(self) -> Part | None:
        """The part whose lag, with all older ones, holds a quarter of what is explained."""
        total, older = sum(part.share for part in self.parts), 0.0
        for part in sorted(self.parts, key=lambda part: -part.start):
            older += part.share
            if older >= _SHARE * total:
                return part
        return None

    @property
    def strongest(self) -> Part | None:
        """The part that explains most."""
        return max(self.parts, key=lambda part: part.share, default=None)

    @property
    def lag(self) -> int | None:
        """Lag of the oldest part; None where no dependence was found."""
        return None if self.oldest is None else self.oldest.start


def in_words(part: Part) -> str:
    """Return the lag of a part with its correlation."""
    lag = f"lag {part.start}" if part.start == part.end else f"lags {part.start} to {part.end}"
    return f"{lag}, found in the data (correlation {part.correlation:.2g})"


def find_dependence(pairs: Pairs, seed: int = 0) -> Dependence | None:
    """Find the lags at which targets depend on inputs.

    Lags are examined in ranges 0, 1, 2-3, 4-7 ..., the newest first. In each range the single input
    is sought that explains most of what newer inputs leave unexplained: a feature, its rank, a
    token, a product of two features of one step, at one lag or summed over the range or over one of
    its halves. It is compared with the largest such value when targets are permuted among
    sequences, with the tail of a Gumbel distribution. At each step the mean over sequences is
    removed. So an old input that only resembles a new one is not taken for a dependence.

    Arguments:
        pairs: inputs and targets.
        seed: seed of the permutations.

    Returns:
        The dependence; None where there are too few sequences, or the targets are constant.
    """
    time, sequences, _ = pairs.inputs.shape
    x = _features(pairs)
    features = x.shape[2]
    steps = len(pairs.times)
    rows = min(_MOST_ROWS, _MOST_NUMBERS // max(1, max(1, time // 2) * features))
    kept = min(sequences, rows if steps == 1 else max(_LEAST_SEQUENCES, min(512, rows // 4)))
    if kept < _LEAST_SEQUENCES:
        return None
    chosen = torch.linspace(0, steps - 1, max(1, min(steps, rows // kept))).round().long().unique()
    x, times = x[:, :kept], pairs.times[chosen]
    y = _columns(pairs.targets[chosen][:, :kept], classes=pairs.classes)
    if y is None:
        return None
    generator = torch.Generator().manual_seed(seed)
    orders = torch.stack(
        [
            torch.arange(kept),
            *(torch.randperm(kept, generator=generator) for _ in range(_PERMUTATIONS)),
        ]
    )
    taken: list[Tensor] = []  # orthonormal
    explained: dict[tuple[int, int], Tensor] = {}  # of each column, by first and last lag
    for start, end in _ranges(int(times.max()) + 1):
        cells, lags = _cells(x, times, start, end)
        for _ in range(_ROUNDS):
            cells, left = _beside(cells, taken)
            lags = [lag for lag, keep in zip(lags, left.tolist(), strict=True) if keep]
            if not lags:
                break
            best, probability = _strongest(cells, y, orders, joint=pairs.classes)
            if probability > _LEVEL:
                break
            taken.append(cells[:, best])
            slopes = taken[-1] @ y.flatten(0, 1)
            y = y - (taken[-1][:, None] * slopes).view_as(y)
            explained[lags[best]] = explained.get(lags[best], 0.0) + slopes.square()
    parts = (
        Part(*span, min(1.0, float(shares.sum() if pairs.classes else shares.amax())))
        for span, shares in explained.items()
    )
    return Dependence(tuple(parts), kept)


def _ranges(count: int) -> list[tuple[int, int]]:
    """List ranges of lags, first and last: 0, 1, 2-3, 4-7, ... below the count."""
    found, start = [(0, 0)], 1
    while start < count:
        found.append((start, min(2 * start, count) - 1))
        start *= 2
    return found


def _features(pairs: Pairs) -> Tensor:
    """Return features with ranks, products of two, and one column for each of few whole numbers."""
    x = pairs.inputs
    missing = x.isnan()
    kinds = [_distinct(x[..., k]) for k in range(x.shape[2])]
    numbers = [k for k, distinct in enumerate(kinds) if not 2 < distinct <= _MOST_CLASSES]
    columns: list[Tensor] = [x[..., k] for k in range(x.shape[2])]
    for k, distinct in enumerate(kinds):
        values = x[..., k]
        if k not in numbers:
            for value in values[~missing[..., k]].unique().tolist():
                columns.append((values == value).to(x.dtype).masked_fill(missing[..., k], math.nan))
        elif 0 < distinct <= _MOST_TOKENS and len(pairs.times) == 1:
            columns.extend(_rates(values, pairs))
    if len(numbers) <= _RANKS:
        columns.extend(_ranks(x[..., k]) for k in numbers)
    if x.shape[2] <= _PRODUCTS:
        columns.extend(
            x[..., i] * x[..., k]
            for i in range(x.shape[2])
            for k in range(i, x.shape[2])
            if i in numbers or i != k
        )
    return torch.stack(columns, -1)


def _distinct(values: Tensor) -> int:
    """Return the number of distinct values if all are whole, else 0."""
    known = values[~values.isnan()]
    if bool((known != known.round()).any()):
        return 0
    return len(known.unique())


def _rates(tokens: Tensor, pairs: Pairs) -> list[Tensor]:
    """Return, for each token, the mean target of other sequences that hold the token.

    The sequences of even number get means over those of odd number, and the reverse: so a sequence
    has no part in its own.
    """
    y = _columns(pairs.targets, classes=pairs.classes)
    if y is None:
        return []
    missing = tokens.isnan()
    _, ids = tokens.nan_to_num().unique(return_inverse=True)
    even = torch.arange(tokens.shape[1]) % 2 == 0
    found: list[Tensor] = []
    for column in y[0].unbind(-1)[:_RATES]:
        rates = torch.zeros_like(tokens)
        for half in (even, ~even):
            used = ~missing[:, half]
            given = ids[:, half][used]
            weights = column[half].expand(len(tokens), -1)[used]
            size = int(ids.max()) + 1
            total = torch.zeros(size).index_add(0, given, weights)
            count = torch.zeros(size).index_add(0, given, torch.ones_like(weights))
            rates[:, ~half] = (total / (count + 1))[ids[:, ~half]]
        found.append(rates.masked_fill(missing, math.nan))
    return found


def _ranks(values: Tensor) -> Tensor:
    """Return the rank of each number among all, in (0, 1], equal for equal numbers."""
    flat = values.flatten()
    known = ~flat.isnan()
    _, place, counts = flat[known].unique(return_inverse=True, return_counts=True)
    ranks = (counts.cumsum(0) - (counts - 1) / 2)[place] / max(1, int(known.sum()))
    return (
        torch.full_like(flat, math.nan).masked_scatter(known, ranks.to(flat.dtype)).view_as(values)
    )


def _columns(targets: Tensor, *, classes: bool) -> Tensor | None:
    """Return (steps, sequences, columns), None where the targets are constant.

    There is one column for each frequent class, whose variances sum to 1; or one for each number
    and one for its rank, each of variance 1. The mean over sequences is 0 at each step.
    """
    y, missing = targets, targets.isnan()
    if classes:
        values, counts = y[~missing].unique(return_counts=True)
        frequent = values[counts.argsort(descending=True)[:_MOST_COLUMNS]]
        y = torch.cat([(y == value).to(y.dtype) for value in frequent.tolist()], -1)
        missing = missing.expand_as(y)
    else:
        if y.shape[2] > _MOST_COLUMNS // 2:
            spread = y.flatten(0, 1).nan_to_num().std(0)
            y = y[..., spread.argsort(descending=True)[: _MOST_COLUMNS // 2]]
        y = torch.cat([y, *(_ranks(y[..., [k]]) for k in range(y.shape[2]))], -1)
        missing = y.isnan()
    largest = y.nan_to_num().abs().amax((0, 1))
    y = _centred(y, missing, 1)
    norms = y.flatten(0, 1).norm(dim=0)
    clear = norms > 1e-6 * math.sqrt(y.shape[0] * y.shape[1]) * largest
    if not bool(clear.any()):
        return None
    y, norms = y[..., clear], norms[clear]
    return y / (norms.square().sum().sqrt() if classes else norms)


def _centred(values: Tensor, missing: Tensor, axis: int) -> Tensor:
    """Return values without their mean over an axis; 0 where they are missing."""
    values = values.masked_fill(missing, 0.0)
    count = (~missing).sum(axis, keepdim=True).clamp_min(1)
    return (values - values.sum(axis, keepdim=True) / count).masked_fill(missing, 0.0)


def _cells(x: Tensor, times: Tensor, start: int, end: int) -> tuple[Tensor, list[tuple[int, int]]]:
    """Return (steps * sequences, cells), each feature at each lag and over ranges; and the lags."""
    lags = torch.arange(start, end + 1)
    at = times[:, None] - lags
    values = x[at.clamp_min(0)]  # (steps, lags, sequences, features)
    missing = values.isnan() | (at < 0)[..., None, None]
    values = _centred(values, missing, 2)
    cells = [values]
    spans = [(int(lag), int(lag)) for lag in lags]
    windows = {(start, end)} if len(lags) > 1 else set[tuple[int, int]]()
    if len(lags) > 3:
        middle = (start + end) // 2
        windows |= {(start, middle), (middle + 1, end)}
    for first, last in sorted(windows):
        cells.append(values[:, first - start : last - start + 1].sum(1, keepdim=True))
        spans.append((first, last))
    stacked = torch.cat(cells, 1).permute(0, 2, 1, 3)  # (steps, sequences, spans, features)
    flat = stacked.reshape(stacked.shape[0] * stacked.shape[1], -1)
    return flat, [span for span in spans for _ in range(x.shape[2])]


def _beside(cells: Tensor, taken: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Return the cells without what others explain, of norm 1, and which of them are left."""
    norms = cells.norm(dim=0)
    if taken:
        basis = torch.stack(taken, 1)
        for _ in range(2):  # twice, for the rounding
            cells = cells - basis @ (basis.T @ cells)
    rest = cells.norm(dim=0)
    left = (norms > 1e-6) & (rest.square() > _NEW * norms.square())
    return cells[:, left] / rest[left], left


def _strongest(cells: Tensor, y: Tensor, orders: Tensor, *, joint: bool) -> tuple[int, float]:
    """Return the cell that explains most of y, and the probability of such a share by chance."""
    permuted = y[:, orders].transpose(1, 2).flatten(0, 1)  # (rows, orders, columns)
    shares = (cells.T @ permuted.flatten(1)).square_().view(cells.shape[1], *permuted.shape[1:])
    of_order = shares.sum(2) if joint else shares.amax(2)
    best = int(of_order[:, 0].argmax())
    largest = of_order.amax(0).double()
    real, null = float(largest[0]), largest[1:]
    scale = float(null.std()) * math.sqrt(6) / math.pi
    if scale <= 0:
        return best, 1.0
    exponent = (real - float(null.mean())) / scale + _EULER  # of a Gumbel distribution
    return best, -math.expm1(-math.exp(-exponent)) if exponent > -30 else 1.0
