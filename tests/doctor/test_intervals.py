import pytest
import torch

from throughtime.doctor.intervals import difference, estimate


def test_intervals_hold_as_often_as_they_say() -> None:
    generator = torch.Generator().manual_seed(0)
    draws = torch.randn(4000, 6, generator=generator, dtype=torch.float64) + 3
    inside = [e.low <= 3 <= e.high for e in (estimate(row.tolist()) for row in draws)]
    assert sum(inside) / len(inside) == pytest.approx(0.95, abs=0.012)


def test_one_measurement_has_no_interval() -> None:
    assert estimate([2.0]).low == -float("inf")


def test_differences_are_paired() -> None:
    """What all batches share cancels."""
    before = [1.0, 5.0, 9.0, 2.0]
    found = difference([b - 0.1 - 0.01 * k for k, b in enumerate(before)], before)
    assert found.high < 0
