"""Algorithms on bits: copy, repeat copy, associative recall, priority sort (Graves 2014)."""

import abc
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Self, TypeAlias

import numpy as np
import torch
from jaxtyping import Float32

from throughtime.core.errors import ConfigurationError
from throughtime.tasks.kinds import Bits, Vectors
from throughtime.tasks.levels import Levelled, Levels
from throughtime.tasks.sequences import DrawnTask, Outputs, Right, SequenceBatch, Targets
from throughtime.tasks.task import check_at_least

Rows: TypeAlias = Float32[np.ndarray, "rows width"]
"""Vectors of one sequence, in order."""
Answered: TypeAlias = Float32[np.ndarray, "answers bits"]
"""The last answers of one sequence, in order."""


class Case(NamedTuple):
    """The size of a sequence.

    Attributes:
        steps: number of steps.
        answers: number of steps with an answer.
        level: level of the sequence.
        repeats: number of repetitions, of repeat copy.
    """

    steps: int
    answers: int
    level: int
    repeats: int = 1


class Algorithm(DrawnTask, Levelled, abc.ABC):  # pyright: ignore[reportIncompatibleVariableOverride]
    """A task whose answers are bits and whose size is a level.

    Levels are uniform from `smallest` to `largest`. The sequences of a training batch have one
    level, so that no step is padding (our choice); each held-out sequence has its own. With
    `start`, training is by curriculum: see `Levels`. Held-out data have all levels, in every run.

    Attributes:
        smallest, largest: bounds of the level.
    """

    inputs: Vectors  # pyright: ignore[reportIncompatibleVariableOverride]
    answers: Bits  # pyright: ignore[reportIncompatibleVariableOverride]
    criterion = "less than one wrong bit in a hundred held-out sequences (our choice)"
    smallest: int
    largest: int
    _given: Mapping[str, Any]

    @abc.abstractmethod
    def cases(self) -> list[Case]:
        """Return the sizes of sequences, equally likely ones."""

    @abc.abstractmethod
    def drawn(self, random: np.random.Generator, case: Case) -> tuple[Rows, Answered]:
        """Return inputs (time, input) of one sequence, and its last answers (rows, bits)."""

    def at_level(self, level: int) -> Self:
        """Return the same task with levels up to another one, without curriculum.

        Arguments:
            level: its largest level.
        """
        level = max(level, self.smallest)
        kind: Any = type(self)
        return kind(**self._given, smallest=self.smallest, largest=level)

    def draw(self, random: np.random.Generator, batch_size: int) -> SequenceBatch:
        """Sequences each of which has a level of its own."""
        cases = self.cases()
        found = [cases[k] for k in random.integers(0, len(cases), batch_size)]
        batch = self._batch(random, found, self.length)
        return batch._replace(lengths=torch.tensor([case.steps for case in found]))

    def draw_training(self, random: np.random.Generator, batch_size: int) -> SequenceBatch:
        """Sequences of one level, which is uniform."""
        cases = self.cases()
        case = cases[int(random.integers(0, len(cases)))]
        return self._batch(random, [case] * batch_size, case.steps)

    def _batch(
        self, random: np.random.Generator, cases: Sequence[Case], steps: int
    ) -> SequenceBatch:
        inputs = np.zeros((steps, len(cases), self.inputs.width), np.float32)
        targets = np.full((steps, len(cases), self.answers.count), np.nan, np.float32)
        for b, case in enumerate(cases):
            inputs[: case.steps, b], y = self.drawn(random, case)
            targets[case.steps - len(y) : case.steps, b] = y
        return SequenceBatch(torch.from_numpy(inputs), torch.from_numpy(targets))

    def right(self, outputs: Outputs, targets: Targets) -> Right:
        """Return True for each sequence without a wrong bit."""
        return self.answers.wrong(outputs, targets) == 0

    def solved(self, metrics: Mapping[str, float]) -> bool:
        """Return True if fewer than 0.01 bits a sequence are wrong."""
        return metrics["wrong_bits"] < 0.01

    def _set(
        self,
        given: Mapping[str, Any],
        smallest: int,
        largest: int,
        curriculum: tuple[int, float, int],
        longer: int,
        least: int = 1,
    ) -> None:
        """Check and set what all algorithms share; the rest of the task is set before."""
        start, threshold, patience = curriculum
        check_at_least(f"bits of task '{self.name}'", self.answers.count, 1)
        check_at_least(f"smallest of task '{self.name}'", smallest, least)
        check_at_least(f"largest of task '{self.name}'", largest, smallest)
        self.smallest, self.largest, self._given = smallest, largest, given
        check_at_least(f"start of task '{self.name}'", start, smallest if start else 0)
        self.levels = Levels(start, largest, threshold, patience) if start else None
        cases = self.cases()
        self.length = max(case.steps for case in cases)
        if longer:
            check_at_least(f"longer of task '{self.name}'", longer, least)
            kind: Any = type(self)
            self.longer = kind(**given, smallest=longer, largest=longer)
        bits, rows = self.answers.count, [case.answers for case in cases]
        self.chance = sum(2.0 ** -(bits * n) for n in rows) / len(rows)
        self.chance_loss = math.log(2)
        self.chance_wrong = bits * sum(rows) / len(rows) / 2


class CopyBits(Algorithm):
    """Copy: random bits are repeated after a mark (Graves et al. 2014).

        x = v_1 ... v_n, mark, 0 ... 0        y = v_1 ... v_n at the last n steps
        n: the level

    Arguments:
        bits: width of v, at least 1.
        smallest, largest: bounds of n.
        start: first largest n of the curriculum; 0 for none.
        threshold, patience: attributes of `Levels`.
        longer: n of the sequences on which a trained model is examined, too; 0 for none.

    Inputs:
        (time, batch, bits + 1): v, and the mark on a channel of its own.

    Chance:
        half of the bits; ln 2.

    Raises:
        ConfigurationError: an option out of range.

    Example:
        >>> task = CopyBits(bits=2, smallest=3, largest=3)
        >>> batch = next(task.batches("training", 1))
        >>> batch.inputs[:3, 0, :2].equal(batch.targets[4:, 0])
        True

    Source:
        Graves, Wayne & Danihelka, "Neural Turing machines", 2014.
    """

    name = "copy-bits"

    def __init__(
        self,
        *,
        bits: int = 8,
        smallest: int = 1,
        largest: int = 20,
        start: int = 0,
        threshold: float = 0.05,
        patience: int = 50,
        longer: int = 0,
    ):
        self.inputs, self.answers = Vectors(bits + 1), Bits(bits, per_step=True)
        self._set({"bits": bits}, smallest, largest, (start, threshold, patience), longer)
        self.dependency_length = largest + 1

    def cases(self) -> list[Case]:
        """Return the sizes of sequences, equally likely ones."""
        return [Case(2 * n + 1, n, n) for n in range(self.smallest, self.largest + 1)]

    def drawn(self, random: np.random.Generator, case: Case) -> tuple[Rows, Answered]:
        """Return inputs and answers of one sequence."""
        v, n = _bits(random, case.level, self.answers.count), case.level
        x = np.zeros((case.steps, self.inputs.width), np.float32)
        x[:n, :-1], x[n, -1] = v, 1
        return x, v


class RepeatCopy(Algorithm):
    """Repeat copy: random bits are repeated a given number of times (Graves et al. 2014).

        x = v_1 ... v_n, r, 0 ... 0           y = v_1 ... v_n, r times, then an end mark
        n and r: each up to the level

    The number r comes as (r - m) / s with mean m and deviation s of 1 ... 10, with a mark beside it
    (our choice: one of the numbers might be 0).

    Arguments:
        bits: width of v, at least 1.
        smallest, largest: bounds of n and r.
        start: first largest n and r of the curriculum; 0 for none.
        threshold, patience: attributes of `Levels`.
        longer: n and r of the sequences on which a trained model is examined, too; 0 for none.

    Inputs:
        (time, batch, bits + 2): v, the mark, and the number.

    Answers:
        bits + 1: v, and the end mark, which comes in a last row of zeros.

    Chance:
        half of the bits; ln 2. They are those of a guess of all bits, the end mark's too.

    Raises:
        ConfigurationError: an option out of range.

    Example:
        >>> task = RepeatCopy(bits=2, smallest=3, largest=3)
        >>> batch = next(task.batches("training", 1))
        >>> batch.inputs[:3, 0, :2].equal(batch.targets[10:13, 0, :2])
        True

    Source:
        Graves, Wayne & Danihelka, "Neural Turing machines", 2014. There, n and r are drawn each by
        itself from 1 ... 10, as here.
    """

    name = "repeat-copy"

    def __init__(
        self,
        *,
        bits: int = 8,
        smallest: int = 1,
        largest: int = 10,
        start: int = 0,
        threshold: float = 0.05,
        patience: int = 50,
        longer: int = 0,
    ):
        self.inputs, self.answers = Vectors(bits + 2), Bits(bits + 1, per_step=True)
        check_at_least("bits of task 'repeat-copy'", bits, 1)
        self._set({"bits": bits}, smallest, largest, (start, threshold, patience), longer)
        self.dependency_length = largest * largest + 1

    def cases(self) -> list[Case]:
        """Return the sizes of sequences, equally likely ones."""
        every = range(self.smallest, self.largest + 1)
        return [Case(n + 1 + n * r + 1, n * r + 1, n, r) for n in every for r in every]

    def drawn(self, random: np.random.Generator, case: Case) -> tuple[Rows, Answered]:
        """Return inputs and answers of one sequence."""
        n, count = case.level, case.repeats
        v = _bits(random, n, self.answers.count - 1)
        y = np.zeros((case.answers, self.answers.count), np.float32)
        y[:-1, :-1], y[-1, -1] = np.tile(v, (count, 1)), 1
        x = np.zeros((case.steps, self.inputs.width), np.float32)
        x[:n, :-2] = v
        x[n, -2:] = 1, (count - 5.5) / math.sqrt(99 / 12)
        return x, y


class AssociativeRecall(Algorithm):
    """Associative recall: the item that came after a given one (Graves et al. 2014).

        x = mark, item_1, mark, item_2, ..., mark, item_n, query mark, item_q, query mark, 0 ... 0
        y = item_{q + 1} at the last steps    q: uniform from 1 to n - 1    n: the level

    An item has several vectors of bits, one a step. No two items of a sequence are equal.

    Arguments:
        bits: width of a vector, at least 1.
        vectors: vectors of an item, at least 1.
        smallest, largest: bounds of n, at least 2.
        start: first largest n of the curriculum; 0 for none.
        threshold, patience: attributes of `Levels`.
        longer: n of the sequences on which a trained model is examined, too; 0 for none.

    Inputs:
        (time, batch, bits + 2): the vectors, the mark of items, and the mark of the query.

    Chance:
        half of the bits; ln 2.

    Raises:
        ConfigurationError: an option out of range, or more items than there are of these bits.

    Example:
        >>> task = AssociativeRecall(smallest=2, largest=2)
        >>> batch = next(task.batches("training", 1))
        >>> batch.inputs[5:8, 0, :6].equal(batch.targets[-3:, 0])
        True

    Source:
        Graves, Wayne & Danihelka, "Neural Turing machines", 2014.
    """

    name = "associative-recall"

    def __init__(
        self,
        *,
        bits: int = 6,
        vectors: int = 3,
        smallest: int = 2,
        largest: int = 6,
        start: int = 0,
        threshold: float = 0.05,
        patience: int = 50,
        longer: int = 0,
    ):
        check_at_least("vectors of task 'associative-recall'", vectors, 1)
        if max(largest, longer) > 2 ** (bits * vectors) / 2:
            raise ConfigurationError(
                "largest of task 'associative-recall'",
                got=max(largest, longer),
                expected=f"at most {2 ** (bits * vectors) // 2}, half of all items of these bits",
            )
        self.vectors = vectors
        self.inputs, self.answers = Vectors(bits + 2), Bits(bits, per_step=True)
        given = {"bits": bits, "vectors": vectors}
        self._set(given, smallest, largest, (start, threshold, patience), longer, least=2)
        self.dependency_length = self.length - 1 - vectors

    def cases(self) -> list[Case]:
        """Return the sizes of sequences, equally likely ones."""
        every, per = range(self.smallest, self.largest + 1), self.vectors
        return [Case((n + 2) * (per + 1), per, n) for n in every]

    def drawn(self, random: np.random.Generator, case: Case) -> tuple[Rows, Answered]:
        """Return inputs and answers of one sequence."""
        per, bits, level = self.vectors, self.answers.count, case.level
        items = _distinct(random, level, per * bits).reshape(level, per, bits)
        asked = int(random.integers(0, level - 1))
        x = np.zeros((case.steps, self.inputs.width), np.float32)
        parts = x[: (level + 1) * (per + 1)].reshape(level + 1, per + 1, -1)
        parts[:, 1:, :bits] = np.concatenate([items, items[asked : asked + 1]])
        parts[:level, 0, bits] = 1
        parts[level, 0, bits + 1] = x[len(x) - 1 - per, bits + 1] = 1
        return x, items[asked + 1]


class PrioritySort(Algorithm):
    """Priority sort: vectors of bits by falling priority, the highest four fifths (Graves 2014).

        x = (v_1, p_1) ... (v_n, p_n), mark, 0 ... 0    p ~ U(-1, 1)    n: the level
        y = the v of the ceil(4 n / 5) highest priorities, the highest first

    Arguments:
        bits: width of v, at least 1.
        smallest, largest: bounds of n; both are the paper's 20, which gives 16 answers.
        start: first largest n of the curriculum, at least `smallest`; 0 for none.
        threshold, patience: attributes of `Levels`.
        longer: n of the sequences on which a trained model is examined, too; 0 for none.

    Inputs:
        (time, batch, bits + 2): v, the priority, and the mark.

    Chance:
        half of the bits; ln 2.

    Raises:
        ConfigurationError: an option out of range.

    Example:
        >>> task = PrioritySort()
        >>> task.length, next(task.batches("training", 1)).targets.isnan().logical_not().sum() / 8
        (37, tensor(16.))

    Source:
        Graves, Wayne & Danihelka, "Neural Turing machines", 2014. Other n than 20 are ours.
    """

    name = "priority-sort"

    def __init__(
        self,
        *,
        bits: int = 8,
        smallest: int = 20,
        largest: int = 20,
        start: int = 0,
        threshold: float = 0.05,
        patience: int = 50,
        longer: int = 0,
    ):
        self.inputs, self.answers = Vectors(bits + 2), Bits(bits, per_step=True)
        self._set({"bits": bits}, smallest, largest, (start, threshold, patience), longer)
        self.dependency_length = self.length - 1

    def cases(self) -> list[Case]:
        """Return the sizes of sequences, equally likely ones."""
        every = range(self.smallest, self.largest + 1)
        return [Case(n + 1 + _four_fifths(n), _four_fifths(n), n) for n in every]

    def drawn(self, random: np.random.Generator, case: Case) -> tuple[Rows, Answered]:
        """Return inputs and answers of one sequence."""
        n = case.level
        v, priorities = _bits(random, n, self.answers.count), 2 * random.random(n) - 1
        x = np.zeros((case.steps, self.inputs.width), np.float32)
        x[:n, :-2], x[:n, -2], x[n, -1] = v, priorities, 1
        return x, v[np.argsort(-priorities, kind="stable")[: case.answers]]


def _four_fifths(number: int) -> int:
    return math.ceil(4 * number / 5)


def _bits(random: np.random.Generator, rows: int, count: int) -> Rows:
    return random.integers(0, 2, (rows, count)).astype(np.float32)


def _distinct(random: np.random.Generator, rows: int, count: int) -> Rows:
    """Rows of bits, drawn again until no two are equal."""
    found = _bits(random, rows, count)
    while True:
        first = np.unique(found, axis=0, return_index=True)[1]
        if len(first) == rows:
            return found
        again: Sequence[int] = np.setdiff1d(np.arange(rows), first).tolist()
        found[again] = _bits(random, len(again), count)
