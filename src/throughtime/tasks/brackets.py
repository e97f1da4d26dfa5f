"""Distant brackets: the symbol behind an opening bracket comes again behind the closing one."""

from collections.abc import Mapping
from math import log

import numpy as np
import torch

from throughtime.tasks.generated import GeneratedTask
from throughtime.tasks.kinds import Classes, Vectors
from throughtime.tasks.options import check_at_least
from throughtime.tasks.sequences import Outputs, Right, SequenceBatch, Targets, likeliest


class DistantBrackets(GeneratedTask):
    """Distant brackets: which symbol followed [, to be recalled after ], d random symbols later.

        [ x f_1 ... f_d ]        x and f_i drawn from S symbols with equal probability; x is due

    Arguments:
        distance: d, at least 0.
        symbols: S, at least 2.

    Inputs:
        (distance + 3, batch, S + 2) one-hot: the symbols, [ and ].

    Targets:
        (batch,) x, after the last step.

    Chance:
        1 / S; ln S.

    Differs from the paper in:
        one pair of brackets a sequence, at a fixed distance, and only x is due: there, text goes
        on for ever, and every next symbol is due.

    Raises:
        ConfigurationError: an option out of range.

    Example:
        >>> task = DistantBrackets(distance=10)
        >>> task.length, task.dependency_length
        (13, 11)

    Source:
        Tallec & Ollivier, "Unbiased online recurrent optimization", ICLR 2018; Ollivier, Tallec &
        Charpiat, "Training recurrent networks online without backtracking", 2015.
    """

    name = "distant-brackets"
    criterion = "accuracy of at least 99 % (our choice)"

    def __init__(self, *, distance: int = 10, symbols: int = 4):
        check_at_least("distance of task 'distant-brackets'", distance, 0)
        check_at_least("symbols of task 'distant-brackets'", symbols, 2)
        self.symbols = symbols
        self.length = distance + 3
        self.dependency_length = distance + 1
        self.inputs, self.answers = Vectors(symbols + 2), Classes(symbols)
        self.chance = 1 / symbols
        self.chance_loss = log(symbols)

    def draw(self, random: np.random.Generator, batch_size: int) -> SequenceBatch:
        """Sequences of independent, equally probable symbols."""
        codes = random.integers(0, self.symbols, (self.length, batch_size))
        codes[0], codes[-1] = self.symbols, self.symbols + 1
        one_hot = np.eye(self.symbols + 2, dtype=np.float32)
        return SequenceBatch(torch.from_numpy(one_hot[codes]), torch.from_numpy(codes[1]))

    def right(self, outputs: Outputs, targets: Targets) -> Right:
        """Return True for the classes with the largest output."""
        return likeliest(outputs, targets)

    def solved(self, metrics: Mapping[str, float]) -> bool:
        """Accuracy of at least 0.99."""
        return metrics["accuracy"] >= 0.99
