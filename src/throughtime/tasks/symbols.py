"""Symbols far apart: temporal order, copying, distant brackets, and counting (a^n b^n)."""

from collections.abc import Mapping
from math import log
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F

from throughtime.core.errors import ConfigurationError
from throughtime.tasks.kinds import Classes, Vectors
from throughtime.tasks.sequences import (
    GeneratedTask,
    Outputs,
    Right,
    SequenceBatch,
    Targets,
    likeliest,
)
from throughtime.tasks.task import Task, check_at_least

SYMBOLS = "EBabcdXY"
"""Symbols of the temporal order of 1997, in the order of the inputs."""
_E, _B, _A, _X, _NOTHING = 0, 1, 2, 6, 8


def temporal_order(
    *, length: int = 100, symbols: int = 2, form: Literal["hochreiter", "pascanu"] = "hochreiter"
) -> Task:
    """Temporal order: which symbol came first (Hochreiter & Schmidhuber 1997; form=pascanu: 2013).

    Arguments:
        length: T, the (least) number of steps.
        symbols: 2, or 3 in the form "hochreiter".
        form: "hochreiter" builds TemporalOrder, "pascanu" builds PascanuTemporalOrder.

    Raises:
        ConfigurationError: 3 symbols in the form "pascanu", or too short.
    """
    if form == "hochreiter":
        return TemporalOrder(length=length, symbols=symbols)
    if symbols != 2:
        raise ConfigurationError(
            "symbols of task 'temporal-order', form=pascanu", got=symbols, expected="2"
        )
    return PascanuTemporalOrder(length=length)


class TemporalOrder(GeneratedTask):
    """Order in which X and Y came, 2 or 3 of them (Hochreiter & Schmidhuber 1997).

    A sequence starts with E, ends with B, and has X or Y, each with probability 1/2, at `symbols`
    steps; all else is drawn from a, b, c, d. Steps are counted from 0; with T = 100 they are the
    paper's.

        2 symbols:  t_1 in [T/10, 2 T/10], t_2 in [T/2, T/2 + T/10]
        3 symbols:  t_1 in [T/10, 2 T/10], t_2 in [T/3, T/3 + T/10], t_3 in [2T/3, 2T/3 + T/10]
        class = the symbols read as a binary number, X = 0, Y = 1, the first symbol most significant

    Arguments:
        length: T, at least 10; a sequence has between T and T + T/10 steps, uniformly.
        symbols: 2 (four classes, task 6a) or 3 (eight classes, task 6b).

    Inputs:
        (time, batch, 8) one-hot in the order E, B, a, b, c, d, X, Y.

    Targets:
        (batch,) classes after the last step; right when every class's probability is within 0.3 of
        the target's, 1 or 0.

    Chance:
        2^-symbols; symbols * ln 2.

    Differs from the paper in:
        probabilities from a softmax and cross-entropy instead of logistic outputs and squared
        error, so that "average error below 0.1" is applied to the cross-entropy; the criterion is
        applied to the 1,024 sequences of the validation set instead of the last 2,000 of training.
        Fractions of T are rounded down.

    Raises:
        ConfigurationError: neither 2 nor 3 symbols, or too short for them.

    Example:
        >>> task = TemporalOrder(length=100, symbols=3)
        >>> task.answers.count, task.dependency_length
        (8, 99)

    Source:
        Hochreiter & Schmidhuber, "Long Short-Term Memory", Neural Computation 9(8), 1997,
        section 5.6.
    """

    name = "temporal-order"
    inputs = Vectors(len(SYMBOLS))
    criterion = (
        "mean cross-entropy below 0.1 and every held-out probability within 0.3 of its target "
        "(Hochreiter & Schmidhuber 1997)"
    )

    def __init__(self, *, length: int = 100, symbols: int = 2):
        if symbols not in (2, 3):
            raise ConfigurationError(
                "symbols of task 'temporal-order'", got=symbols, expected="2 or 3"
            )
        check_at_least(
            "length of task 'temporal-order'",
            length,
            10,
            "The symbols stand in stretches of a tenth of the length, apart from each other.",
        )
        self.symbols = symbols
        self.shortest = length
        self.length = length + length // 10
        self.starts = np.array(
            [length // 10, length // 2]
            if symbols == 2
            else [length // 10, length // 3, 2 * length // 3]
        )
        self.dependency_length = self.length - 1 - length // 10
        self.answers = Classes(2**symbols)
        self.chance = 1 / self.answers.count
        self.chance_loss = log(self.answers.count)

    def draw(self, random: np.random.Generator, batch_size: int) -> SequenceBatch:
        """Sequences of all classes with equal probability."""
        sequence = np.arange(batch_size)
        lengths = random.integers(self.shortest, self.length + 1, batch_size)
        late = random.integers(0, self.shortest // 10 + 1, (self.symbols, batch_size))
        is_y = random.integers(0, 2, (self.symbols, batch_size))
        codes = random.integers(_A, _X, (self.length, batch_size))
        codes[0] = _E
        codes[self.starts[:, None] + late, sequence] = _X + is_y
        codes[lengths - 1, sequence] = _B
        codes[np.arange(self.length)[:, None] >= lengths] = _NOTHING
        one_hot = np.eye(_NOTHING + 1, self.inputs.width, dtype=np.float32)
        places = 2 ** np.arange(self.symbols)[::-1, None]
        return SequenceBatch(
            torch.from_numpy(one_hot[codes]),
            torch.from_numpy((is_y * places).sum(axis=0)),
            torch.from_numpy(lengths),
        )

    def right(self, outputs: Outputs, targets: Targets) -> Right:
        """Return True where the probability of every class is within 0.3 of its target, 1 or 0."""
        wanted = F.one_hot(targets, self.answers.count)
        return ((outputs.softmax(dim=-1) - wanted).abs() < 0.3).all(dim=-1)

    def solved(self, metrics: Mapping[str, float]) -> bool:
        """Loss below 0.1 and no error."""
        return metrics["loss"] < 0.1 and metrics["accuracy"] == 1


class PascanuTemporalOrder(GeneratedTask):
    """Temporal order as in 2013: six symbols, T steps, solved with one error in a hundred.

        A or B, each with probability 1/2, at two steps; all else is drawn from c, d, e, f
        t_1 in [T/10, 2 T/10), t_2 in [T/2, T/2 + T/10), steps counted from 0
        class = 2 * (first is B) + (second is B)

    Arguments:
        length: T, at least 10.

    Inputs:
        (time, batch, 6) one-hot in the order A, B, c, d, e, f.

    Targets:
        (batch,) classes after the last step; right when the likeliest is the target.

    Chance:
        1/4; 2 ln 2.

    Differs from the paper in:
        the criterion is applied to the 1,024 sequences of the validation set; the authors' program
        draws 10,000. Fractions of T are rounded down.

    Raises:
        ConfigurationError: too short.

    Example:
        >>> task = PascanuTemporalOrder(length=50)
        >>> task.length, task.answers.count
        (50, 4)

    Source:
        R. Pascanu, T. Mikolov and Y. Bengio, "On the difficulty of training recurrent neural
        networks", ICML 2013, and the authors' program.
    """

    name = "temporal-order"
    inputs = Vectors(6)
    answers = Classes(4)
    chance = 1 / 4
    chance_loss = log(4)
    criterion = "an error below 1 % on held-out sequences (Pascanu et al. 2013)"

    def __init__(self, *, length: int = 100):
        check_at_least("length of task 'temporal-order'", length, 10)
        self.length = length
        self.dependency_length = length - 1 - length // 10

    def draw(self, random: np.random.Generator, batch_size: int) -> SequenceBatch:
        """Sequences of all classes with equal probability."""
        starts = np.array([[self.length // 10], [self.length // 2]])
        late = random.integers(0, self.length // 10, (2, batch_size))
        is_b = random.integers(0, 2, (2, batch_size))
        codes = random.integers(2, self.inputs.width, (self.length, batch_size))
        codes[starts + late, np.arange(batch_size)] = is_b
        one_hot = np.eye(self.inputs.width, dtype=np.float32)
        targets = 2 * is_b[0] + is_b[1]
        return SequenceBatch(torch.from_numpy(one_hot[codes]), torch.from_numpy(targets), None)

    def right(self, outputs: Outputs, targets: Targets) -> Right:
        """Return True for the classes with the largest output."""
        return likeliest(outputs, targets)

    def solved(self, metrics: Mapping[str, float]) -> bool:
        """More than 99 % right."""
        return metrics["accuracy"] > 0.99


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
