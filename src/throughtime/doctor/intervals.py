"""Confidence intervals of means, and whether a difference is clear of the noise."""

import math
import statistics
from collections.abc import Sequence

from throughtime.results.diagnosis import Estimate


def mean(values: Sequence[float]) -> float:
    """The arithmetic mean."""
    return math.fsum(values) / len(values)


def student_quantile(p: float, degrees: int) -> float:
    """The p-quantile of Student's t distribution.

    Exact for 1 and 2 degrees of freedom; else the expansion of Cornish and Fisher about the normal
    quantile to the fourth order, within 1 % from 3 degrees on for p up to 0.995.

    Arguments:
        p: in (0, 1).
        degrees: of freedom, at least 1.

    Example:
        >>> round(student_quantile(0.975, 9), 3)
        2.262
    """
    if degrees == 1:
        return math.tan(math.pi * (p - 0.5))
    if degrees == 2:
        return (2 * p - 1) / math.sqrt(2 * p * (1 - p))
    z, n = statistics.NormalDist().inv_cdf(p), degrees
    return (
        z
        + (z**3 + z) / (4 * n)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * n**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * n**3)
        + (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / (92160 * n**4)
    )


def estimate(values: Sequence[float], *, confidence: float = 0.95) -> Estimate:
    """The mean of independent measurements and its interval by Student's t.

    Arguments:
        values: at least one; of a single one the interval is not known and unbounded.
        confidence: of the interval.
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
    """The mean of after - before, measured on the same batches."""
    return estimate([a - b for a, b in zip(after, before, strict=True)], confidence=confidence)


def exactly(value: float, n: int = 1) -> Estimate:
    """A number without uncertainty."""
    return Estimate(value, value, value, n)
