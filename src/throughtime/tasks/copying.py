"""Copying memory: recall a few symbols after a long blank."""

from collections.abc import Mapping
from math import log

import numpy as np
import torch

from throughtime.tasks.generated import GeneratedTask
from throughtime.tasks.kinds import Classes, Vectors
from throughtime.tasks.options import check_at_least
from throughtime.tasks.sequences import Outputs, Right, SequenceBatch, Targets


class Copying(GeneratedTask):
    """Copying memory: recall 10 symbols after T blanks, in order (Arjovsky, Shah & Bengio 2016).

    With K items out of S symbols, blank = 0, symbols 1 ... S, marker = S + 1, over T + 2 K steps:

        input   K symbols, T - 1 blanks, the marker, K blanks
        target  T + K blanks, the K symbols

    Arguments:
        length: T, at least 1.
        items: K, 10 in the paper.
        symbols: S, 8 in the paper.

    Inputs:
        (T + 2 K, batch, S + 2) one-hot.

    Targets:
        (T + 2 K, batch) classes, 0 (blank) to S: all count in the loss. Accuracy is over the K
        recalled symbols alone, since blanks are no feat.

    Chance:
        the step is known but not the symbols: blank T + K times, and a guess among S symbols K
        times: accuracy 1/S, loss K ln S / (T + 2 K).

    Differs from the paper in:
        it shows curves; a loss below a tenth of chance counts as solved: our choice.

    Raises:
        ConfigurationError: an option out of range.

    Example:
        >>> round(Copying(length=100).chance_loss, 4)
        0.1733

    Source:
        Arjovsky, Shah & Bengio, "Unitary Evolution Recurrent Neural Networks", ICML 2016.
    """

    name = "copying"
    criterion = "cross-entropy below a tenth of chance, K ln S / (T + 2 K) (our choice)"

    def __init__(self, *, length: int = 100, items: int = 10, symbols: int = 8):
        check_at_least("length of task 'copying'", length, 1)
        check_at_least("items of task 'copying'", items, 1)
        check_at_least("symbols of task 'copying'", symbols, 2)
        self.items = items
        self.symbols = symbols
        self.length = length + 2 * items
        self.dependency_length = length + items
        self.inputs = Vectors(symbols + 2)
        self.answers = Classes(symbols + 1, per_step=True)
        self.chance = 1 / symbols
        self.chance_loss = items * log(symbols) / self.length

    def draw(self, random: np.random.Generator, batch_size: int) -> SequenceBatch:
        """Sequences of independent, equally probable symbols."""
        items = random.integers(1, self.symbols + 1, (self.items, batch_size))
        codes = np.zeros((self.length, batch_size), np.int64)
        codes[: self.items] = items
        codes[-self.items - 1] = self.symbols + 1
        targets = np.zeros((self.length, batch_size), np.int64)
        targets[-self.items :] = items
        one_hot = np.eye(self.symbols + 2, dtype=np.float32)
        return SequenceBatch(torch.from_numpy(one_hot[codes]), torch.from_numpy(targets))

    def right(self, outputs: Outputs, targets: Targets) -> Right:
        """Return True for the recalled symbols with the largest output, (items, batch)."""
        return outputs[-self.items :].argmax(dim=-1) == targets[-self.items :]

    def solved(self, metrics: Mapping[str, float]) -> bool:
        """Loss below a tenth of chance."""
        return metrics["loss"] < 0.1 * self.chance_loss
