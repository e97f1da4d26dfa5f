"""Curves of pictures from tensors."""

from collections.abc import Sequence

import torch
from torch import Tensor

from throughtime.reports.diagnosis_words import number
from throughtime.reports.numbers import count
from throughtime.results.diagnosis import Series


def by_index(
    label: str, values: Tensor, *, low: Tensor | None = None, high: Tensor | None = None
) -> Series:
    """A curve over 0, 1, 2 ..., thinned where it has more points than a screen.

    Arguments:
        label: of the curve.
        values: (n,).
        low, high: (n,), the band around it.
    """
    chosen = thinned(len(values))

    def picked(tensor: Tensor | None) -> tuple[float, ...]:
        return () if tensor is None else tuple(tensor.double()[chosen].tolist())

    return Series(label, tuple(map(float, chosen)), picked(values), picked(low), picked(high))


def thinned(size: int, most: int = 2000) -> Sequence[int]:
    """Evenly spaced indices below `size`, the first and the last among them.

    Arguments:
        size: how many there are.
        most: how many to keep, at least 2.

    Example:
        >>> [*thinned(3)], [*thinned(9, most=3)]
        ([0, 1, 2], [0, 4, 8])
    """
    if size <= most:
        return range(size)
    return [round(k * (size - 1) / (most - 1)) for k in range(most)]


def relative(norms: Tensor) -> Tensor:
    """Norms relative to the largest that is finite.

    Arguments:
        norms: (n,).

    Returns:
        (n,); zeros where all are.
    """
    largest = float(torch.where(norms.isfinite(), norms, 0.0).max())
    return norms / largest if largest > 0 else norms


def points(
    label: str,
    x: Tensor,
    values: Tensor,
    *,
    low: Tensor | None = None,
    high: Tensor | None = None,
) -> Series:
    """A curve through given points.

    Arguments:
        label: of the curve.
        x: (n,).
        values: (n,).
        low, high: (n,), the band around it.
    """
    rows = [() if v is None else tuple(v.double().tolist()) for v in (x, values, low, high)]
    return Series(label, *rows)


def due(needed: float | None) -> tuple[float, str] | None:
    """The mark of a picture by lag: how far back the answer needs to reach, if that is known."""
    return None if needed is None else (float(needed), f"needed, {count(needed)}")


def steps(n: float) -> str:
    """So many steps.

    Example:
        >>> steps(1), steps(1200), steps(1.25)
        ('1 step', '1,200 steps', '1.25 steps')
    """
    return "1 step" if n == 1 else f"{number(n)} steps"
