"""Student's t distribution against tables and against its density."""

import math

import pytest
import torch

from throughtime.core.student import student_quantile, student_tail


@pytest.mark.parametrize(
    ("degrees", "p", "value"),
    [
        (1, 0.975, 12.706),
        (2, 0.975, 4.3027),
        (3, 0.975, 3.1824),
        (5, 0.975, 2.5706),
        (15, 0.975, 2.1314),
        (30, 0.995, 2.7500),
        (3, 0.995, 5.8409),
    ],
)
def test_quantiles_of_the_tables(degrees: int, p: float, value: float) -> None:
    assert student_quantile(p, degrees) == pytest.approx(value, rel=5e-5)


def test_quantiles_are_the_inverse_of_the_tail() -> None:
    for degrees in (1, 2, 3, 8, 61, 5000):
        for p in (0.01, 0.5, 0.9, 0.9995):
            t = student_quantile(p, degrees)
            assert student_tail(t, degrees) == pytest.approx(1 - p, rel=1e-9)


def test_student_tail_equals_the_integral_of_its_density():
    for degrees in (1, 2, 3, 4, 7, 10, 31):
        constant = math.exp(math.lgamma((degrees + 1) / 2) - math.lgamma(degrees / 2)) / math.sqrt(
            degrees * math.pi
        )
        # t = tan(theta) maps the line to a finite interval
        theta = torch.linspace(0, math.pi / 2, 20_001, dtype=torch.float64)[:-1]
        density = constant * (1 + theta.tan() ** 2 / degrees) ** (-(degrees + 1) / 2)
        for t in (-2.0, 0.0, 0.7, 3.0, 12.0):
            inside = theta <= math.atan(abs(t))
            part = torch.trapezoid((density / theta.cos() ** 2)[inside], theta[inside])
            expected = 0.5 - math.copysign(float(part), t)
            assert student_tail(t, degrees) == pytest.approx(expected, abs=3e-4)
