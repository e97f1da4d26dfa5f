"""Confidence intervals of means and of differences."""

import math
import statistics
from collections.abc import Sequence

from throughtime.core.student import student_quantile
from throughtime.results.diagnosis import Estimate


def mean(values: Sequence[float]) -> float:
    """Return the arithmetic mean."""
    return math.fsum(values) / len(values)


def estimate(values: Sequence[float], *, confidence: float = 0.95) -> Estimate:
    """Return the mean of independent measurements and its interval by Student's t.

    Arguments:
        values: measurements, at least one; the interval of a single one is unbounded.
        confidence: confidence of the interval, in (0, 1).
    """
    center, count = mean(values), len(values)
    if count < 2 or not math.isfinite(center):
        return Estimate(center, -math.inf, math.inf, count)
    half = (
        student_quantile(0.5 + confidence / 2, count - 1)
        * statistics.stdev(values)
        / math.sqrt(count)
    )
    return Estimate(center, center - half, center + half, count)


def difference(after: Sequence[float], before: Sequence[float]) -> Estimate:
    """Return the mean of after - before on the same batches, with its interval of 99 %."""
    return estimate([a - b for a, b in zip(after, before, strict=True)], confidence=0.99)


def exactly(value: float, n: int = 1) -> Estimate:
    """Return a number without uncertainty."""
    return Estimate(value, value, value, n)
