"""Random masks: their rates, their independence, and that they are drawn again alike."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from throughtime.cells.recurrent_dropout import bernoulli


def draw(shape: tuple[int, ...], rate: float, seed: int = 0, dtype=torch.float32) -> torch.Tensor:
    return bernoulli(shape, rate, dtype=dtype, generator=torch.Generator("cpu").manual_seed(seed))


@pytest.mark.parametrize("rate", [0.001, 0.05, 0.5, 0.9])
def test_rate(rate: float):
    count = 1_000_000
    ones = float(draw((1000, 1000), rate).sum())
    assert abs(ones - rate * count) < 5 * math.sqrt(rate * (1 - rate) * count)


def test_neighbours_are_independent():
    mask = draw((1001, 1000), 0.3, dtype=torch.float64) - 0.3
    for a, b in ((mask[1:], mask[:-1]), (mask[:, 1:], mask[:, :-1])):
        correlation = (a * b).mean() / 0.21
        assert abs(float(correlation)) < 5 / math.sqrt(a.numel())


@given(st.integers(0, 40), st.integers(0, 5), st.sampled_from([0.0, 0.4, 1.0]))
def test_shape_and_values(rows: int, width: int, rate: float):
    mask = draw((rows, 3, width), rate)
    assert mask.shape == (rows, 3, width)
    assert set(mask.unique().tolist()) <= {0.0: {0.0}, 0.4: {0.0, 1.0}, 1.0: {1.0}}[rate]


def test_the_generator_decides():
    generator = torch.Generator("cpu").manual_seed(5)
    first, second = (bernoulli((50,), 0.5, dtype=torch.float32, generator=generator) for _ in "ab")
    assert torch.equal(first, draw((50,), 0.5, seed=5))
    assert not torch.equal(first, second)
