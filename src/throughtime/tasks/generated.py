"""Tasks whose sequences are drawn: afresh for training, once and for all for held-out sets."""

import abc
import itertools
from collections.abc import Iterator
from typing import Literal, final

import numpy as np
import torch

from throughtime.tasks.options import check_at_least
from throughtime.tasks.seeding import generator
from throughtime.tasks.sequences import SequenceBatch, SequenceTask
from throughtime.tasks.task import Split

# Sequences held out. 2,560 is Hochreiter & Schmidhuber's test set.
HELD_OUT: dict[Split, int] = {"validation": 1_024, "test": 2_560}
# Held-out sequences are drawn in blocks of this size whatever the batch size, so that they are the
# same in every run.
BLOCK = 128


class GeneratedTask(SequenceTask):
    """A task that draws any number of sequences from a random generator."""

    @abc.abstractmethod
    def draw(self, random: np.random.Generator, batch_size: int) -> SequenceBatch:
        """Sequences and answers as a pure function of the generator's state.

        The time axis always has `self.length` steps.
        """

    @final
    def batches(
        self, split: Split, size: int, *, seed: int = 0, start: int = 0
    ) -> Iterator[SequenceBatch]:
        """Return fresh draws of (seed, "training", step), or the held-out sequences.

        There are 1,024 sequences for validation and 2,560 for test.
        """
        check_at_least("batch_size", size, 1)
        if split == "training":
            steps = itertools.count(start)
            return (self.draw(generator(seed, "training", step), size) for step in steps)
        return itertools.islice(self._held_out(split, size), start, None)

    def _held_out(self, split: Literal["validation", "test"], size: int) -> Iterator[SequenceBatch]:
        """Cut the blocks of a split into batches of another size."""
        axis = 1 if self.answers.per_step else 0  # of the sequences, in the targets

        def part(batch: SequenceBatch, first: int, count: int) -> SequenceBatch:
            return SequenceBatch(
                batch.inputs.narrow(1, first, count),
                batch.targets.narrow(axis, first, count),
                None if batch.lengths is None else batch.lengths.narrow(0, first, count),
            )

        def joined(one: SequenceBatch, other: SequenceBatch) -> SequenceBatch:
            lengths = [each.lengths for each in (one, other) if each.lengths is not None]
            return SequenceBatch(
                torch.cat((one.inputs, other.inputs), 1),
                torch.cat((one.targets, other.targets), axis),
                torch.cat(lengths) if lengths else None,
            )

        pending: SequenceBatch | None = None
        for index in range(HELD_OUT[split] // BLOCK):
            block = self.draw(generator(0, split, index), BLOCK)
            pending = block if pending is None else joined(pending, block)
            while pending.size >= size:
                yield part(pending, 0, size)
                pending = part(pending, size, pending.size - size)
        if pending is not None and pending.size > 0:
            yield pending
