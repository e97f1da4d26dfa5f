"""Text in windows of one-hot characters: predict the next one."""

import itertools
import math
from collections.abc import Iterator, Mapping
from typing import final

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from throughtime.tasks.corpora import read_text
from throughtime.tasks.kinds import Classes, Vectors
from throughtime.tasks.seeding import generator
from throughtime.tasks.sequences import (
    Outputs,
    Right,
    SequenceBatch,
    SequenceTask,
    Targets,
    likeliest,
)
from throughtime.tasks.task import Split, check_at_least
from throughtime.tasks.texts import Text, chance_by_pairs


@final
class Characters(SequenceTask):
    """The next character of a text, from those before it in a window.

    The first 90 % of the text are for training, the next 5 % for validation, the last for test.

    Arguments:
        text: text of at least 20 * (length + 1) characters.
        length: characters of a window, at least 2.
        stream: If True, each training batch continues the one before it, so that a learner's
            state is carried along. The rows start evenly spread over the text, which starts over at
            its end. Held-out windows are the same, each from nothing.

    Inputs:
        (length, batch, alphabet) one-hot.

    Targets:
        (length, batch) the character that follows.

    Chance:
        the table of pairs in the training text, 1 added to each count, on the validation text: the
        last character is the only one known.

    Raises:
        ConfigurationError: a window below 2.
        DataError: too little text.

    Example:
        >>> task = Characters("to be or not to be " * 60, length=10)
        >>> next(task.batches("training", 4)).inputs.shape
        torch.Size([10, 4, 7])
    """

    name = "characters"
    criterion = "test loss below 1.5 bits a character (our choice)"

    def __init__(self, text: str, *, length: int = 100, stream: bool = False):
        as_stream = Text.of(text, length=length, name=self.name)
        self.alphabet, self.codes = "".join(as_stream.vocabulary.symbols), as_stream.codes
        self.length, self.stream = length, stream
        self.dependency_length = length - 1
        self.inputs = Vectors(len(self.alphabet))
        self.answers = Classes(len(self.alphabet), per_step=True)
        self.chance, self.chance_loss = chance_by_pairs(len(self.alphabet), self.codes)

    def _windows(self, codes: Int[Tensor, " n"], starts: Int[Tensor, " batch"]) -> SequenceBatch:
        taken = codes[(starts + torch.arange(self.length + 1)[:, None]) % len(codes)]
        inputs = torch.nn.functional.one_hot(taken[:-1], self.inputs.width).float()
        return SequenceBatch(inputs, taken[1:].contiguous())

    def batches(
        self, split: Split, size: int, *, seed: int = 0, start: int = 0
    ) -> Iterator[SequenceBatch]:
        """Return windows from anywhere in the training text, or held-out windows in order.

        On a stream, training windows follow those of the step before, from places that the seed
        moves. Characters left over at the end of a held-out text are not used.
        """
        check_at_least("batch_size", size, 1)
        if split == "training":
            return (self._training_batch(step, size, seed) for step in itertools.count(start))
        codes = self.codes[split]
        starts = torch.arange(start * size * self.length, len(codes) - self.length, self.length)
        return (self._windows(codes, part) for part in starts.split(size) if len(part))

    def _training_batch(self, step: int, batch_size: int, seed: int) -> SequenceBatch:
        training = self.codes["training"]
        if self.stream:
            count = len(training)
            first = int(generator(seed, "training", 0).integers(0, count))
            spread = torch.arange(batch_size) * count // batch_size
            return self._windows(training, first + step * self.length + spread)
        last = len(training) - self.length
        starts = generator(seed, "training", step).integers(0, last, batch_size)
        return self._windows(training, torch.from_numpy(starts.astype(np.int64)))

    def right(self, outputs: Outputs, targets: Targets) -> Right:
        """Return True for the classes with the largest output."""
        return likeliest(outputs, targets)

    def solved(self, metrics: Mapping[str, float]) -> bool:
        """Loss below 1.5 bits."""
        return metrics["loss"] < 1.5 * math.log(2)


def characters(
    *, length: int = 100, stream: bool = False, data_dir: str | None = None
) -> Characters:
    """The next character of Shakespeare's plays, from those before it in a window.

    Arguments:
        length: characters of a window, at least 2.
        stream: If True, each batch continues the one before it; see `Characters`.
        data_dir: folder that holds input.txt, or input.txt.gz, itself or in a subfolder
            tinyshakespeare; that of THROUGHTIME_DATA if None; downloaded if that is unset.

    Raises:
        ConfigurationError: a window below 2.
        DataError: the file is missing, or not the one that it should be.

    Source:
        A. Karpathy's char-rnn (2015), for the selection.
    """
    return Characters(read_text(data_dir), length=length, stream=stream)
