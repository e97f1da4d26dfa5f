"""Check that no feature is made of values of another that come later, the target among them."""

import dataclasses
from collections.abc import Iterator

import torch
from torch import Tensor

_PAST = 8  # values of a series up to a step, of which a feature of that step may be made
_LATER = 3  # values after it
_EXACT = 1e-9  # of a variance: the most that an equation leaves open
_OPEN = 1e-3  # the least that the values up to the step alone leave open
_ZERO = 1e-3  # of the largest weight
_ROWS = 4  # equations for each coefficient: fewer may hold by chance
_MOST_FEATURES = 16


@dataclasses.dataclass(frozen=True)
class Made:
    """Feature that is a weighted average of a series, with values that come later.

    Attributes:
        feature: number of the feature.
        series: number of the feature whose values are the series; the target goes on with it.
        later: steps from the feature to the latest value that it is made of.
    """

    feature: int
    series: int
    later: int


def made_features(x: Tensor, y: Tensor) -> Iterator[Made]:
    """Yield the features that are made of later values of a series that the target goes on with.

    The equation holds at every step, that of the target included, and does not without the later
    values. So to solve it for the target is enough. A recursion of the series is not told: it holds
    without them. Nor is what drives a series, u_t = x_{t+1} - a x_t: weights of an average have one
    sign.

    Arguments:
        x: inputs (samples, time, feature).
        y: targets (samples,) that come a step after the last input; or (samples, time), those of
            every step, where they are the next value of a feature.
    """
    width = x.shape[2]
    if width < 2 or width > _MOST_FEATURES or not x.is_floating_point():
        return
    x, y = x.detach().double().cpu(), y.detach().double().cpu()
    for series in range(width):
        if y.dim() > 1 and not _goes_on(x[..., series], y):
            continue
        ends = y[:, -1:] if y.dim() > 1 else y[:, None]
        values = torch.cat([x[..., series], ends], 1)  # (samples, time + 1)
        for feature in (k for k in range(width) if k != series):
            later = _later(values, x[..., feature])
            if later is not None:
                yield Made(feature, series, later)


def _goes_on(values: Tensor, y: Tensor) -> bool:
    apart = (y[:, :-1] - values[:, 1:]).abs().max()
    return y.shape == values.shape and float(apart) <= 1e-5 * float(values.abs().max())


def _later(values: Tensor, feature: Tensor) -> int | None:
    """Return how much later the values are that a feature is made of; None if there are none."""
    time = feature.shape[1]
    for later in range(1, _LATER + 1):
        for past in (2, 4, _PAST):  # the later equations hold at few steps of short sequences
            steps = range(past - 1, time - later + 1)
            columns = past + later + 1
            if len(steps) < 2 or len(steps) * len(feature) < _ROWS * columns:
                continue
            rows = [values[:, t - past + 1 : t + later + 1] for t in steps]
            table, made = torch.cat(rows), torch.cat([feature[:, t] for t in steps])
            left, weights = _fit(table, made)
            if left < _EXACT and _fit(table[:, :past], made)[0] > _OPEN and _averages(weights):
                return later
    return None


def _averages(weights: Tensor) -> bool:
    """Return whether weights have one sign, and two or more are not 0."""
    relative = weights / weights[weights.abs().argmax()]
    return bool((relative > -_ZERO).all()) and int((relative > _ZERO).sum()) > 1


def _fit(table: Tensor, made: Tensor) -> tuple[float, Tensor]:
    """Return the part of a variance that the best linear function leaves open, and its weights."""
    table = torch.cat([table, torch.ones_like(table[:, :1])], 1)
    spread = float(made.var())
    if not spread > 0 or not bool(table.isfinite().all() & made.isfinite().all()):
        return 1.0, table[0, :-1]
    # rank-revealing: columns may depend on each other
    found = torch.linalg.lstsq(table, made[:, None], driver="gelsd").solution
    left = float((table @ found - made[:, None]).square().mean()) / spread
    return left, found[:-1, 0]
