"""Two marked values, one of them long ago: their sum (adding), or their product."""

import abc
from collections.abc import Mapping
from math import log
from typing import Literal, final

import numpy as np
import torch
from jaxtyping import Float32

from throughtime.tasks.kinds import Values, Vectors
from throughtime.tasks.sequences import (
    GeneratedTask,
    Outputs,
    Right,
    SequenceBatch,
    Targets,
    within,
)
from throughtime.tasks.task import Task, check_at_least


class MarkedPairs(GeneratedTask):
    """Sequences of pairs, a value and a marker, with two marked values that give the answer.

    Values are drawn from U[low, 1]. A sequence has between T and T + T/10 pairs, uniformly. One of
    the first ten pairs is marked, then one of the first T/2 - 1 pairs that are not marked yet. The
    marker is 1 at the marked pairs, -1 at the first (unless it is marked) and last pair, and 0
    elsewhere. If the first pair is marked, its value is `neutral`.

    Differs from the paper in:
        in it, X_1 (the first draw) becomes neutral if the first pair is marked, and is silent
        on the case that the second draw marks the first pair: here the first pair's value becomes
        neutral in both cases. T/2 and T/10 are rounded down.

    Arguments:
        length: T, at least 11.

    Attributes:
        low: least value, -1 or 0.
        neutral: 0 for a sum, 1 for a product.

    Raises:
        ConfigurationError: the sequences are too short for their marks.
    """

    inputs = Vectors(2)
    answers = Values(1)
    low: float
    neutral: float

    def __init__(self, *, length: int = 100):
        check_at_least(
            f"length of task '{self.name}'",
            length,
            11,
            "One of the first ten pairs is marked, and the last pair must come after them.",
        )
        self.shortest = length
        self.length = length + length // 10
        self.dependency_length = self.length - 1

    @abc.abstractmethod
    def answer(self, marked: Float32[np.ndarray, "2 batch"]) -> Float32[np.ndarray, " batch"]:
        """Return the answers to two marked values, in [0, 1]."""

    @final
    def draw(self, random: np.random.Generator, batch_size: int) -> SequenceBatch:
        """Sequences of marked pairs and their answers."""
        length, longest, sequence = self.shortest, self.length, np.arange(batch_size)
        lengths = random.integers(length, longest + 1, batch_size)
        first = random.integers(0, 10, batch_size)
        second = random.integers(0, length // 2 - 1, batch_size)
        second += second >= first  # count the pairs that are not marked yet
        values = random.random((longest, batch_size), np.float32)
        values = self.low + (1 - self.low) * values

        marker = np.zeros((longest, batch_size), np.float32)
        marker[0] = -1
        marker[lengths - 1, sequence] = -1
        marker[first, sequence] = 1
        marker[second, sequence] = 1
        values[0, marker[0] == 1] = self.neutral
        values[np.arange(longest)[:, None] >= lengths] = 0
        inputs = np.stack((values, marker), axis=-1).astype(np.float32, copy=False)
        targets = self.answer(values[np.stack((first, second)), sequence])[:, None]
        return SequenceBatch(*map(torch.from_numpy, (inputs, targets, lengths)))

    @final
    def right(self, outputs: Outputs, targets: Targets) -> Right:
        """Return True where the error is below 0.04."""
        return within(0.04, outputs, targets)


def probability_first_is_marked(length: int) -> float:
    """1/10 by the first draw, else 1/(T/2 - 1) by the second."""
    return 1 / 10 + 9 / 10 / (length // 2 - 1)


def adding(*, length: int = 100, form: Literal["hochreiter", "unit"] = "hochreiter") -> Task:
    """Adding: the sum of two marked values (Hochreiter & Schmidhuber 1997; form=unit: [0, 1]).

    Arguments:
        length: T, the (least) number of steps.
        form: "hochreiter" builds HochreiterAdding, "unit" builds UnitAdding.
    """
    return HochreiterAdding(length=length) if form == "hochreiter" else UnitAdding(length=length)


class HochreiterAdding(MarkedPairs):
    """Adding as in 1997: values in [-1, 1], three markers, T to T + T/10 steps, a scaled target.

        y = 1/2 + (X_1 + X_2) / 4,   X_1, X_2 ~ U[-1, 1] the marked values

    `MarkedPairs` places the marks. The last input that the answer needs comes at least T/2 steps
    before it.

    Arguments:
        length: T, at least 11.

    Targets:
        (batch, 1), in [0, 1], after the last step; right when the error is below 0.04.

    Chance:
        let p be the probability that the first pair is marked, so that one value is 0. X_1 + X_2
        has variance 2/3, or 1/3 with probability p: the mean 1/2 has the loss (2 - p) / 48. It also
        is the mode of a symmetric density with one peak, so it has the most answers right:
        |X_1 + X_2| < 0.16 has probability 1 - 0.92^2, or 0.16 with probability p.

    Differs from the paper in:
        the criterion is applied to the 1,024 sequences of the validation set instead of the last
        2,000 of training. See also `MarkedPairs`.

    Raises:
        ConfigurationError: the sequences are too short for their marks.

    Example:
        >>> task = HochreiterAdding(length=100)
        >>> task.length, round(task.chance_loss, 4)
        (110, 0.0392)

    Source:
        Hochreiter & Schmidhuber, "Long Short-Term Memory", Neural Computation 9(8), 1997,
        section 5.4.
    """

    name = "adding"
    low, neutral = -1, 0
    criterion = (
        "mean squared error below 0.01 and every held-out error below 0.04 "
        "(Hochreiter & Schmidhuber 1997)"
    )

    def __init__(self, *, length: int = 100):
        super().__init__(length=length)
        p = probability_first_is_marked(length)
        self.chance = (1 - p) * (1 - 0.92**2) + p * 0.16
        self.chance_loss = (2 - p) / 48

    def answer(self, marked: Float32[np.ndarray, "2 batch"]) -> Float32[np.ndarray, " batch"]:
        """Return the scaled sums."""
        return 0.5 + (marked[0] + marked[1]) / 4

    def solved(self, metrics: Mapping[str, float]) -> bool:
        """Loss below 0.01 and no error."""
        return metrics["loss"] < 0.01 and metrics["accuracy"] == 1


class UnitAdding(GeneratedTask):
    """Adding as since 2015: values in [0, 1], markers 0 and 1, one mark in each half, T steps.

        y = X_1 + X_2,   X_1, X_2 ~ U[0, 1];  X_1 marked in [0, T/2), X_2 in [T/2, T)

    Arguments:
        length: T, at least 2.

    Targets:
        (batch, 1), in [0, 2], after the last step; right when the error is below 0.08.

    Chance:
        X_1 + X_2 has mean 1 and variance 2/12: the constant 1 has the loss 1/6; its density peaks
        at 1, and |X_1 + X_2 - 1| < 0.08 has probability 1 - 0.92^2.

    Differs from the papers in:
        they give losses only. The tolerance is that of 1997 in relation to the width of the target,
        and a loss below 0.01 counts as solved: our choices. T/2 is rounded down.

    Raises:
        ConfigurationError: fewer than two steps.

    Example:
        >>> round(UnitAdding(length=100).chance_loss, 4)
        0.1667

    Source:
        Arjovsky, Shah & Bengio, "Unitary Evolution Recurrent Neural Networks", ICML 2016; Le,
        Jaitly & Hinton, "A Simple Way to Initialize Recurrent Networks of Rectified Linear Units",
        2015.
    """

    name = "adding"
    inputs = Vectors(2)
    answers = Values(1)
    chance = 1 - 0.92**2
    chance_loss = 1 / 6
    criterion = (
        "mean squared error below 0.01, where chance is 1/6 (our choice; the papers show curves)"
    )

    def __init__(self, *, length: int = 100):
        check_at_least(
            "length of task 'adding' with form=unit", length, 2, "One step of each half is marked."
        )
        self.length = length
        self.dependency_length = length - 1

    def draw(self, random: np.random.Generator, batch_size: int) -> SequenceBatch:
        """Sequences with one mark in each half, and their sums."""
        half, sequence = self.length // 2, np.arange(batch_size)
        first = random.integers(0, half, batch_size)
        second = random.integers(half, self.length, batch_size)
        inputs = np.zeros((self.length, batch_size, 2), np.float32)
        inputs[:, :, 0] = random.random((self.length, batch_size), np.float32)
        inputs[first, sequence, 1] = 1
        inputs[second, sequence, 1] = 1
        targets = inputs[first, sequence, 0] + inputs[second, sequence, 0]
        return SequenceBatch(torch.from_numpy(inputs), torch.from_numpy(targets[:, None]))

    def right(self, outputs: Outputs, targets: Targets) -> Right:
        """Return True where the error is below 0.08."""
        return within(0.08, outputs, targets)

    def solved(self, metrics: Mapping[str, float]) -> bool:
        """Loss below 0.01."""
        return metrics["loss"] < 0.01


class Multiplication(MarkedPairs):
    """Multiplication: the product of two marked values in [0, 1] (Hochreiter & Schmidhuber 1997).

        y = X_1 X_2,   X_1, X_2 ~ U[0, 1] the marked values

    `MarkedPairs` places the marks. Unlike a sum, a product is nothing that a memory cell does by
    itself.

    Arguments:
        length: T, at least 11; a sequence has between T and T + T/10 steps, uniformly.

    Targets:
        (batch, 1), in [0, 1], after the last step; right when the error is below 0.04.

    Chance:
        let p be the probability that the first pair is marked, so that one value is 1 and y is
        uniform on [0, 1]; else y has the density -ln y. Then E y = (1-p)/4 + p/2 and
        E y^2 = (1-p)/9 + p/3, and the mean has the loss E y^2 - (E y)^2. The density falls with y,
        so the best window of width 0.08 is [0, 0.08]: accuracy (1-p) 0.08 (1 - ln 0.08) + 0.08 p.

    Differs from the paper in:
        the criterion, fewer than 13 of the last 2,000 training sequences wrong, is applied to the
        share of the 1,024 validation sequences. See also `MarkedPairs`.

    Raises:
        ConfigurationError: the sequences are too short for their marks.

    Example:
        >>> round(Multiplication(length=100).chance, 3)
        0.258

    Source:
        Hochreiter & Schmidhuber, "Long Short-Term Memory", Neural Computation 9(8), 1997,
        section 5.5.
    """

    name = "multiplication"
    low, neutral = 0, 1
    criterion = (
        "fewer than 13 in 2,000 held-out errors of 0.04 or more "
        "(Hochreiter & Schmidhuber 1997, n_seq = 13)"
    )

    def __init__(self, *, length: int = 100):
        super().__init__(length=length)
        p = probability_first_is_marked(length)
        self.chance = (1 - p) * 0.08 * (1 - log(0.08)) + p * 0.08
        self.chance_loss = (1 - p) / 9 + p / 3 - ((1 - p) / 4 + p / 2) ** 2

    def answer(self, marked: Float32[np.ndarray, "2 batch"]) -> Float32[np.ndarray, " batch"]:
        """Return the products."""
        return marked[0] * marked[1]

    def solved(self, metrics: Mapping[str, float]) -> bool:
        """Fewer than 13 in 2,000 wrong."""
        return metrics["accuracy"] > 1 - 13 / 2_000
