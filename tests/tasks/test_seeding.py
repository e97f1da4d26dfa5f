"""Random streams: reproducible, disjoint, and uniform where they say so."""

import itertools

import numpy as np
import pytest

from throughtime.core.errors import ConfigurationError
from throughtime.tasks.seeding import generator, permutation


def philox_4x64_10(counter: list[int], key: list[int]) -> list[int]:
    """The cipher as in Salmon et al. 2011, in Python's whole numbers."""
    mask = 2**64 - 1
    multipliers = 0xD2E7470EE14C6C93, 0xCA5A826395121157
    weyl = 0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B
    c, k = list(counter), list(key)
    for _ in range(10):
        high0, low0 = divmod(multipliers[0] * c[0], 2**64)
        high1, low1 = divmod(multipliers[1] * c[2], 2**64)
        c = [high1 ^ c[1] ^ k[0], low1, high0 ^ c[3] ^ k[1], low0]
        k = [(part + step) & mask for part, step in zip(k, weyl, strict=True)]
    return c


def test_numbers_are_those_of_the_published_cipher():
    # numpy counts up before it draws, so a stream that starts at step * 2^128 begins one later.
    words = philox_4x64_10([1, 0, 5, 0], [11, 1]) + philox_4x64_10([2, 0, 5, 0], [11, 1])
    drawn = generator(11, "validation", step=5).random(8)
    assert drawn.tolist() == [(word >> 11) * 2.0**-53 for word in words]


def test_a_stream_is_a_function_of_seed_purpose_and_step():
    def first(*arguments):
        return generator(*arguments).random(4).tolist()

    assert first(3, "training", 9) == first(3, "training", 9)
    seeds, purposes, steps = (
        (0, 1, 2**32, 2**64 - 1),
        ("training", "validation", "test"),
        (0, 1, 2**32),
    )
    streams = [first(*where) for where in itertools.product(seeds, purposes, steps)]
    assert len({tuple(stream) for stream in streams}) == 4 * 3 * 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((-1, "training", 0), r"^seed: got -1, expected a whole number in \[0, 2\^64\)$"),
        ((2**64, "training", 0), r"^seed: got 18446744073709551616, expected"),
        ((0, "training", -3), r"^step: got -3, expected a whole number in \[0, 2\^64\)$"),
    ],
)
def test_seeds_and_steps_out_of_range(arguments, message):
    with pytest.raises(ConfigurationError, match=message):
        generator(*arguments)


def test_permutations_are_permutations_and_all_come_equally_often():
    draws = [tuple(permutation(4, seed=1, purpose="split", step=step)) for step in range(2_400)]
    assert {tuple(sorted(draw)) for draw in draws} == {(0, 1, 2, 3)}
    counts = [draws.count(order) for order in itertools.permutations(range(4))]
    # Chi-square with 23 degrees of freedom: 49.7 is exceeded with probability 0.001.
    assert sum((count - 100) ** 2 / 100 for count in counts) < 49.7


def test_a_permutation_sorts_the_words_of_the_stream():
    words = list(itertools.chain(*(philox_4x64_10([i, 0, 7, 0], [5, 4]) for i in (1, 2, 3))))
    expected = sorted(range(10), key=lambda i: words[i])
    assert permutation(10, 5, "pixel order", 7).tolist() == expected
    assert permutation(10, 5, "pixel order", 7).dtype == np.int64
