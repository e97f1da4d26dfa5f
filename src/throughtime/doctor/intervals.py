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
    mean = math.fsum(values) / len(values)
    if len(values) < 2:
        return Estimate(mean, -math.inf, math.inf, 1)
    if not math.isfinite(mean):
        return Estimate(mean, -math.inf, math.inf, len(values))
    half = (
        student_quantile(0.5 + confidence / 2, len(values) - 1)
        * statistics.stdev(values)
        / math.sqrt(len(values))
    )
    return Estimate(mean, mean - half, mean + half, len(values))


def difference(after: Sequence[float], before: Sequence[float], confidence: float = 0.99):
    """Return the mean of after - before, measured on the same batches, with its interval."""
    return estimate([a - b for a, b in zip(after, before, strict=True)], confidence=confidence)


def exactly(value: float, n: int = 1) -> Estimate:
    """Return a number without uncertainty."""
    return Estimate(value, value, value, n)
