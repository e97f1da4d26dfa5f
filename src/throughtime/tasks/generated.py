"""Tasks whose sequences are drawn: afresh for training, once and for all for held-out sets."""

import abc
from collections.abc import Iterator

import numpy as np
import torch

from throughtime.tasks.options import check_at_least
from throughtime.tasks.seeding import generator
from throughtime.tasks.task import Batch, Split, Task

# Sequences held out. 2,560 is Hochreiter & Schmidhuber's test set.
HELD_OUT: dict[Split, int] = {"validation": 1_024, "test": 2_560}
# Held-out sequences are drawn in blocks of this size whatever the batch size, so that they are the
# same in every run.
BLOCK = 128


class GeneratedTask(Task):
    """A task that draws any number of sequences from a random generator."""

    @abc.abstractmethod
    def draw(self, random: np.random.Generator, batch_size: int) -> Batch:
        """Sequences and answers as a pure function of the generator's state.

        The time axis always has `self.length` steps.
        """

    def training_batch(self, step: int, batch_size: int, seed: int) -> Batch:
        """A fresh draw: the stream of (seed, "training", step)."""
        check_at_least("batch_size", batch_size, 1)
        return self.draw(generator(seed, "training", step), batch_size)

    def evaluation_batches(self, split: Split, batch_size: int) -> Iterator[Batch]:
        """1,024 sequences for validation, 2,560 for test; the last batch may be smaller."""
        check_at_least("batch_size", batch_size, 1)
        blocks = (
            self.draw(generator(0, split, index), BLOCK)
            for index in range(HELD_OUT[split] // BLOCK)
        )
        return _rebatched(blocks, batch_size)


def _rebatched(blocks: Iterator[Batch], batch_size: int) -> Iterator[Batch]:
    pending: Batch | None = None
    for block in blocks:
        pending = block if pending is None else _joined(pending, block)
        while _count(pending) >= batch_size:
            yield _sequences(pending, 0, batch_size)
            pending = _sequences(pending, batch_size, _count(pending))
    if pending is not None and _count(pending) > 0:
        yield pending


def _count(batch: Batch) -> int:
    return batch.inputs.shape[1]


def _sequences(batch: Batch, start: int, stop: int) -> Batch:
    per_step = _targets_axis(batch) == 1
    targets = batch.targets[:, start:stop] if per_step else batch.targets[start:stop]
    lengths = None if batch.lengths is None else batch.lengths[start:stop]
    return Batch(batch.inputs[:, start:stop], targets, lengths)


def _joined(first: Batch, second: Batch) -> Batch:
    lengths = None
    if first.lengths is not None and second.lengths is not None:
        lengths = torch.cat((first.lengths, second.lengths))
    axis = _targets_axis(first)
    return Batch(
        torch.cat((first.inputs, second.inputs), dim=1),
        torch.cat((first.targets, second.targets), dim=axis),
        lengths,
    )


def _targets_axis(batch: Batch) -> int:
    # Targets are (batch,), (batch, output) float, or (time, batch) int64.
    return 1 if batch.targets.ndim == 2 and not batch.targets.is_floating_point() else 0
