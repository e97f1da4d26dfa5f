"""Pairs of a value and a marker, two of them marked (Hochreiter & Schmidhuber 1997, 5.4, 5.5)."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Int64

from throughtime.tasks.options import check_at_least


class MarkedPairs(NamedTuple):
    """Sequences of pairs.

    Attributes:
        inputs: (time, batch, 2): value, marker; zeros beyond a sequence's length.
        marked: (2, batch) the two marked values.
        lengths: (batch,) steps.
    """

    inputs: Float32[np.ndarray, "time batch 2"]
    marked: Float32[np.ndarray, "2 batch"]
    lengths: Int64[np.ndarray, " batch"]


def check_room_for_marks(task: str, length: int) -> None:
    """Raise ConfigurationError unless the marks fit before the last pair."""
    check_at_least(
        f"length of task '{task}'",
        length,
        11,
        "One of the first ten pairs is marked, and the last pair must come after them.",
    )


def draw_marked_pairs(
    random: np.random.Generator, batch_size: int, length: int, low: float, neutral: float
) -> MarkedPairs:
    """Draw values from U[low, 1] and mark two of them.

    A sequence has between T and T + T/10 pairs, uniformly. One of the first ten pairs is marked,
    then one of the first T/2 - 1 pairs that are not marked yet. The marker is 1 at the marked
    pairs, -1 at the first (unless it is marked) and last pair, and 0 elsewhere. If the first pair
    is marked, its value is `neutral`.

    Differs from the paper in:
        in it, X_1 (the first draw) becomes neutral if the first pair is marked, and is silent
        on the case that the second draw marks the first pair: here the first pair's value becomes
        neutral in both cases. T/2 and T/10 are rounded down.

    Arguments:
        random: source of the numbers.
        batch_size: number of sequences.
        length: T.
        low: least value, -1 or 0.
        neutral: 0 for a sum, 1 for a product.
    """
    longest = length + length // 10
    sequence = np.arange(batch_size)
    lengths = random.integers(length, longest + 1, batch_size)
    first = random.integers(0, 10, batch_size)
    second = random.integers(0, length // 2 - 1, batch_size)
    second += second >= first  # count the pairs that are not marked yet
    values = low + (1 - low) * random.random((longest, batch_size), np.float32)

    marker = np.zeros((longest, batch_size), np.float32)
    marker[0] = -1
    marker[lengths - 1, sequence] = -1
    marker[first, sequence] = 1
    marker[second, sequence] = 1
    values[0, marker[0] == 1] = neutral
    values[np.arange(longest)[:, None] >= lengths] = 0
    inputs = np.stack((values, marker), axis=-1).astype(np.float32, copy=False)
    marked = np.stack((inputs[first, sequence, 0], inputs[second, sequence, 0]))
    return MarkedPairs(inputs, marked, lengths)


def probability_first_is_marked(length: int) -> float:
    """1/10 by the first draw, else 1/(T/2 - 1) by the second."""
    return 1 / 10 + 9 / 10 / (length // 2 - 1)
