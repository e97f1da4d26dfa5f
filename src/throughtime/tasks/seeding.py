"""Random numbers as a pure function of (seed, purpose, step): the same on every machine."""

import functools
import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Int64

from throughtime.core.errors import ConfigurationError

Purpose = Literal[
    "training", "validation", "test", "epoch order", "pixel order", "split", "latent variables"
]


def generator(seed: int, purpose: Purpose, step: int = 0) -> np.random.Generator:
    """The generator of one step of one purpose.

    Philox is a function of a key and a counter. The key is (seed, purpose) and the counter starts
    at step * 2^128, so streams of different seeds, purposes and steps never overlap.

    Arguments:
        seed: number in [0, 2^64).
        purpose: use of the numbers; training and held-out data never share a stream.
        step: number in [0, 2^64).

    Raises:
        ConfigurationError: a seed or step out of range.

    Example:
        >>> float(generator(0, "training", step=7).random())  # doctest: +ELLIPSIS
        0.63...

    Source:
        Salmon, Moraes, Dror & Shaw, "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011.
    """
    return np.random.Generator(_philox(seed, purpose, step))


def permutation(
    size: int, seed: int, purpose: Purpose, step: int = 0
) -> Int64[np.ndarray, " size"]:
    """A permutation of 0 ... size - 1, drawn uniformly as the order of `size` random 64-bit keys.

    Arguments:
        size: number of items.
        seed, purpose, step: arguments of `generator`.
    """
    # Not Generator.permutation: numpy keeps a bit generator's stream between versions, not the
    # algorithms on top of it.
    keys = _philox(seed, purpose, step).random_raw(size)
    return np.argsort(keys, kind="stable").astype(np.int64)


def shuffled(count: int, step: int, size: int, seed: int) -> Int64[np.ndarray, " size"]:
    """Return the items of a training batch: each epoch has an order of its own.

    Batches run on from one epoch into the next, so that every item comes equally often.

    Arguments:
        count: number of items of an epoch.
        step: step of the batch.
        size: number of items of the batch.
        seed: seed of the run.

    Example:
        >>> sorted(np.concatenate([shuffled(6, step, 3, seed=0) for step in (0, 1)]).tolist())
        [0, 1, 2, 3, 4, 5]
    """
    epoch, place = np.divmod(step * size + np.arange(size, dtype=np.int64), count)
    return np.concatenate(
        [_epoch_order(count, seed, int(e))[place[epoch == e]] for e in np.unique(epoch)]
    )


@functools.lru_cache(maxsize=4)
def _epoch_order(count: int, seed: int, epoch: int) -> Int64[np.ndarray, " count"]:
    return permutation(count, seed, "epoch order", epoch)


def batches_by_length(
    lengths: Sequence[Any], size: int, seed: int, start: int = 0, *, pool: int
) -> Iterator[Sequence[int]]:
    """Yield the numbers of the items of each batch, epoch after epoch, items of like length.

    An epoch's random order is cut into pools of batches. Each pool is sorted by length and cut into
    batches, whose order is random again.

    Arguments:
        lengths: length of each item: numbers, or tuples of them.
        size: items of a batch; the last one of an epoch may be smaller.
        seed: seed of the run.
        start: step of the first batch.
        pool: batches of a pool.

    Example:
        >>> next(batches_by_length([3, 1, 2], 3, seed=0, pool=1))
        [1, 2, 0]
    """
    steps = math.ceil(len(lengths) / size)
    for epoch in itertools.count(start // steps):
        order = permutation(len(lengths), seed, "epoch order", epoch).tolist()
        batches: list[list[int]] = []
        for first in range(0, len(order), pool * size):
            part = sorted(order[first : first + pool * size], key=lambda k: (lengths[k], k))
            batches += [part[k : k + size] for k in range(0, len(part), size)]
        places = permutation(len(batches), seed, "training", epoch).tolist()
        for place in places[start % steps if epoch == start // steps else 0 :]:
            yield batches[place]


def _philox(seed: int, purpose: Purpose, step: int) -> np.random.Philox:
    for name, value in (("seed", seed), ("step", step)):
        if not 0 <= value < 2**64:
            raise ConfigurationError(name, got=value, expected="a whole number in [0, 2^64)")
    key = np.array([seed, get_args(Purpose).index(purpose)], dtype=np.uint64)
    return np.random.Philox(key=key, counter=np.array([0, 0, step, 0], dtype=np.uint64))
