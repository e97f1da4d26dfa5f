"""Student's t distribution: its tail and its quantiles."""

import math
import statistics


def student_tail(t: float, degrees: int) -> float:
    """Return P(T > t), by its finite sum (Abramowitz and Stegun 1964, 26.7).

    Example:
        >>> round(student_tail(2.998, 7), 4)
        0.01
    """
    theta = math.atan(t / math.sqrt(degrees))
    odd = degrees % 2
    term = total = 1.0 if degrees > 1 else 0.0
    for j in range(1, (degrees - odd) // 2):
        term *= math.cos(theta) ** 2 * ((2 * j) / (2 * j + 1) if odd else (2 * j - 1) / (2 * j))
        total += term
    inside = (
        2 / math.pi * (theta + math.sin(theta) * math.cos(theta) * total)
        if odd
        else math.sin(theta) * total
    )
    return max(0.0, (1 - inside) / 2)


def student_quantile(p: float, degrees: int) -> float:
    """Return t with P(T <= t) = p.

    Newton's method from the normal quantile, which lies between 0 and t: beyond 0 the tail is
    convex, so that the steps approach t from one side.

    Example:
        >>> round(student_quantile(0.975, 9), 3)
        2.262
    """
    if p < 0.5:
        return -student_quantile(1 - p, degrees)
    n, t = degrees, statistics.NormalDist().inv_cdf(p)
    scale = math.lgamma((n + 1) / 2) - math.lgamma(n / 2) - math.log(n * math.pi) / 2
    for _ in range(100):
        density = math.exp(scale - (n + 1) / 2 * math.log1p(t * t / n))
        step = (student_tail(t, n) - (1 - p)) / density
        t += step
        if abs(step) <= 1e-12 * t:
            break
    return t
