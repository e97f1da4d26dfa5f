"""Formal languages: brackets far apart, and strings a^n b^n."""

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


class Counting(GeneratedTask):
    """a^n b^n: after each b, whether another one comes, or the string is over.

        a ... a b ... b        n of each, n uniform in m ... N

    Arguments:
        longest: N, at least 2.
        shortest: m, from 1 to N - 1. What short strings teach by themselves holds for long ones,
            so that a window of m steps and more may do.

    Inputs:
        (2 N, batch, 2) one-hot: a, b; zeros beyond a sequence's 2 n steps.

    Targets:
        (2 N, batch) classes, 0 for another b and 1 for the end, after each b; -1 elsewhere.

    Chance:
        of (N + m) / 2 answers in the mean, one is "the end": accuracy 1 - p, p = 2 / (N + m), and
        loss -p ln p - (1 - p) ln(1 - p).

    Differs from the paper in:
        a string a sequence, and no answer is due after an a, since it cannot be predicted: there,
        strings follow each other for ever.

    Raises:
        ConfigurationError: an option out of range.

    Example:
        >>> Counting(longest=3).chance
        0.5

    Source:
        Gers & Schmidhuber, "LSTM recurrent networks learn simple context free and context sensitive
        languages", 2001; Ollivier, Tallec & Charpiat, "Training recurrent networks online without
        backtracking", 2015.
    """

    name = "counting"
    inputs = Vectors(2)
    answers = Classes(2, per_step=True)
    criterion = "accuracy of at least 99.9 % (our choice)"

    def __init__(self, *, longest: int = 8, shortest: int = 1):
        check_at_least("shortest of task 'counting'", shortest, 1)
        check_at_least("longest of task 'counting'", longest, shortest + 1)
        self.longest, self.shortest = longest, shortest
        self.length = 2 * longest
        self.dependency_length = 2 * longest - 1
        p = 2 / (longest + shortest)
        self.chance = 1 - p
        self.chance_loss = -p * log(p) - (1 - p) * log(1 - p)

    def draw(self, random: np.random.Generator, batch_size: int) -> SequenceBatch:
        """Strings of all lengths with equal probability."""
        n = random.integers(self.shortest, self.longest + 1, batch_size)
        steps = np.arange(self.length)[:, None]
        is_a, is_b = steps < n, (steps >= n) & (steps < 2 * n)
        targets = np.where(is_b, (steps == 2 * n - 1).astype(np.int64), -1)
        inputs = np.stack([is_a, is_b], axis=-1).astype(np.float32)
        return SequenceBatch(*map(torch.from_numpy, (inputs, targets, 2 * n)))

    def right(self, outputs: Outputs, targets: Targets) -> Right:
        """Return True for the classes with the largest output."""
        return likeliest(outputs, targets)

    def solved(self, metrics: Mapping[str, float]) -> bool:
        """Accuracy of at least 0.999."""
        return metrics["accuracy"] >= 0.999
