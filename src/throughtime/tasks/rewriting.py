"""Sequences that are to be written again: backwards, or as they are."""

import abc
import itertools
import math
from collections.abc import Iterator, Mapping
from typing import final

import numpy as np
from torch import nn

from throughtime.core.scoring import Metric
from throughtime.tasks.kinds import Pairs, Tokens
from throughtime.tasks.pairs import (
    Pair,
    PairBatch,
    PairTask,
    collated,
    free_running_loss,
    sequence_accuracy,
)
from throughtime.tasks.seeding import generator
from throughtime.tasks.sequences import BLOCK, HELD_OUT
from throughtime.tasks.task import Split, check_at_least


class GeneratedPairs(PairTask):
    """A task that draws any number of pairs from a random generator.

    Attributes:
        longest_target: largest number of symbols of a target, without the end.
        chance: accuracy in [0, 1] of the best answer that reads no source.
        chance_loss: loss of that answer.
    """

    longest_target: int
    chance: float
    chance_loss: float

    @abc.abstractmethod
    def draw(self, random: np.random.Generator, count: int) -> list[Pair]:
        """Return pairs as a pure function of the generator's state."""

    @property
    @final
    def metrics(self) -> tuple[Metric, ...]:
        """Accuracy of symbols, loss, accuracy of whole targets, and loss after drawn symbols."""
        return (
            Metric("accuracy", "fraction", "higher", self.chance),
            Metric("loss", "nats", "lower", self.chance_loss, tables=False),
            Metric("sequence_accuracy", "fraction", "higher"),
            Metric("free_running_loss", "nats", "lower", tables=False),
        )

    @final
    def batches(
        self, split: Split, size: int, *, seed: int = 0, start: int = 0
    ) -> Iterator[PairBatch]:
        """Return fresh draws of (seed, "training", step), or the held-out pairs.

        There are 1,024 pairs for validation and 2,560 for test.

        Arguments:
            split: "training", which never ends, or held-out pairs.
            size: pairs of a batch.
            seed: seed of the run.
            start: step of the first batch.
        """
        check_at_least("batch_size", size, 1)
        if split == "training":
            drawn = (self.draw(generator(seed, split, k), size) for k in itertools.count(start))
        else:
            pairs = self._held_out(split)
            drawn = (pairs[k : k + size] for k in range(start * size, len(pairs), size))
        return (collated(pairs, self.begin, self.end) for pairs in drawn)

    def _held_out(self, split: Split) -> list[Pair]:
        blocks = range(HELD_OUT[split] // BLOCK)
        return [pair for k in blocks for pair in self.draw(generator(0, split, k), BLOCK)]

    @final
    def examine(self, model: nn.Module, split: Split) -> dict[str, float]:
        """Return "sequence_accuracy", of greedy decoding, and "free_running_loss", in nats.

        The first is the fraction of targets that are given whole. The second is the loss of the
        true symbols after symbols that the model has drawn.

        Arguments:
            model: trained model.
            split: held-out pairs.
        """
        pairs, most = self._held_out(split), self.longest_target
        right = sequence_accuracy(model, pairs, begin=self.begin, end=self.end, most=most)
        free = free_running_loss(model, self.batches(split, BLOCK))
        return {"sequence_accuracy": right, "free_running_loss": free}

    @final
    def solved(self, metrics: Mapping[str, float]) -> bool:
        """Accuracy of at least 0.99.

        Arguments:
            metrics: held-out metrics.
        """
        return metrics["accuracy"] >= 0.99


class _Symbols(GeneratedPairs):
    """Random symbols as a source: lengths and symbols are uniform."""

    criterion = "accuracy of symbols of at least 99 % (our choice)"

    def __init__(self, symbols: int, shortest: int, longest: int):
        subject = f"of task '{self.name}'"
        check_at_least(f"symbols {subject}", symbols, 2)
        check_at_least(f"shortest {subject}", shortest, 1)
        check_at_least(f"longest {subject}", longest, shortest)
        self.symbols, self.shortest, self.longest = symbols, shortest, longest
        self.longest_target = longest
        self.end, self.begin = symbols, symbols + 1
        self.inputs = Pairs(Tokens(symbols), Tokens(symbols + 2))
        self.length = 2 * longest + 1
        self.chance, self.chance_loss = self._chance()

    def _chance(self) -> tuple[float, float]:
        """Accuracy and loss of the best answer that reads no source."""
        lengths = self.longest - self.shortest + 1
        mean = (self.longest + self.shortest) / 2
        right = 0.0
        for t in range(self.longest + 1):  # a symbol, or the end, after t symbols
            reached = min(1.0, (self.longest - t + 1) / lengths)
            ends = 0.0 if t < self.shortest else 1 / (self.longest - t + 1)
            right += reached * max(ends, (1 - ends) / self.symbols)
        nats = mean * math.log(self.symbols) + math.log(lengths)
        return right / (mean + 1), nats / (mean + 1)

    @final
    def draw(self, random: np.random.Generator, count: int) -> list[Pair]:
        """Return sources of uniform lengths and symbols.

        Arguments:
            random: source of random numbers.
            count: number of pairs.
        """
        lengths = random.integers(self.shortest, self.longest + 1, count)
        symbols = random.integers(0, self.symbols, (count, self.longest))
        sources = [row[:n].tolist() for row, n in zip(symbols, lengths, strict=True)]
        return [(source, self._target(source)) for source in sources]

    @abc.abstractmethod
    def _target(self, source: list[int]) -> list[int]: ...


@final
class Reverse(_Symbols):
    """Reversal: random symbols, to be written from the last to the first.

        x_1 ... x_n  ->  x_n ... x_1 END        n uniform in m ... N, x_i uniform in S symbols

    Arguments:
        symbols: S, at least 2.
        shortest: m, at least 1.
        longest: N, at least m.

    Inputs:
        sources of symbols 0 ... S - 1.

    Targets:
        the same symbols, then S, which ends a target; S + 1 begins one.

    Chance:
        the best answer that reads no source, the end where it is likelier than 1 / S;
        (E[n] ln S + ln(N - m + 1)) / (E[n] + 1) nats a symbol.

    Raises:
        ConfigurationError: an option out of range.

    Example:
        >>> batch = next(Reverse(symbols=4, longest=3).batches("training", 2))
        >>> batch.inputs[0].tolist()
        [5, 5]
    """

    name = "reverse"

    def __init__(self, *, symbols: int = 10, shortest: int = 1, longest: int = 10):
        super().__init__(symbols, shortest, longest)
        self.dependency_length = 2 * longest - 1

    def _target(self, source: list[int]) -> list[int]:
        return source[::-1]


@final
class CopySequence(_Symbols):
    """Copying of a sequence: random symbols, to be written again in their order.

        x_1 ... x_n  ->  x_1 ... x_n END        n uniform in m ... N, x_i uniform in S symbols

    Arguments:
        symbols: S, at least 2.
        shortest: m, at least 1.
        longest: N, at least m.

    Inputs:
        sources of symbols 0 ... S - 1.

    Targets:
        the same symbols, then S, which ends a target; S + 1 begins one.

    Chance:
        as for `Reverse`.

    Raises:
        ConfigurationError: an option out of range.

    Example:
        >>> batch = next(CopySequence(symbols=4, longest=3).batches("training", 2))
        >>> batch.targets.shape[1]
        2
    """

    name = "copy-sequence"

    def __init__(self, *, symbols: int = 10, shortest: int = 1, longest: int = 10):
        super().__init__(symbols, shortest, longest)
        self.dependency_length = longest

    def _target(self, source: list[int]) -> list[int]:
        return source


@final
class NoisyWalk(GeneratedPairs):
    """A walk that is seen with noise: one wrong symbol leads away from all that follow.

        y_t = min(max(y_{t-1} + d_t, 0), S - 1)      d_t uniform in -1, 0, 1;  y_1 uniform
        x_t = min(max(y_t + n_t, 0), S - 1)          n_t uniform in -w ... w

    With the true y_{t-1} at hand, the noisy x_t adds little. A decoder that reads its own symbols
    needs it to find back.

    Arguments:
        symbols: S, at least 3.
        length: steps T, at least 2.
        noise: w, at least 0.

    Inputs:
        sources x_1 ... x_T.

    Targets:
        y_1 ... y_T, then S, which ends a target; S + 1 begins one.

    Chance:
        the best answer from the true symbols before, without the source: 1 of S, then 1 of 3 (at
        the ends of the range 2 of 3), and the end.

    Raises:
        ConfigurationError: an option out of range.

    Example:
        >>> batch = next(NoisyWalk(symbols=9, length=5).batches("training", 2))
        >>> batch.source.shape, batch.targets.shape
        (torch.Size([5, 2]), torch.Size([6, 2]))
    """

    name = "noisy-walk"
    criterion = "accuracy of symbols of at least 99 %, which noise does not allow (our choice)"

    def __init__(self, *, symbols: int = 20, length: int = 20, noise: int = 4):
        subject = f"of task '{self.name}'"
        check_at_least(f"symbols {subject}", symbols, 3)
        check_at_least(f"length {subject}", length, 2)
        check_at_least(f"noise {subject}", noise, 0)
        self.symbols, self.noise, self.longest_target = symbols, noise, length
        self.end, self.begin = symbols, symbols + 1
        self.inputs = Pairs(Tokens(symbols), Tokens(symbols + 2))
        self.length, self.dependency_length = 2 * length + 1, length
        edge = 2 / symbols  # of the uniform distribution, which the walk keeps
        right = 1 / symbols + (length - 1) * (edge * 2 / 3 + (1 - edge) / 3) + 1
        stays = math.log(3) - 2 / 3 * math.log(2)  # entropy of 2 of 3
        nats = math.log(symbols) + (length - 1) * (edge * stays + (1 - edge) * math.log(3))
        self.chance, self.chance_loss = right / (length + 1), nats / (length + 1)

    def draw(self, random: np.random.Generator, count: int) -> list[Pair]:
        """Return walks of the full length.

        Arguments:
            random: source of random numbers.
            count: number of pairs.
        """
        steps = random.integers(-1, 2, (self.longest_target, count))
        noise = random.integers(-self.noise, self.noise + 1, steps.shape)
        place = random.integers(0, self.symbols, count)
        walk = np.empty_like(steps)
        for t, step in enumerate(steps):
            place = place if t == 0 else np.clip(place + step, 0, self.symbols - 1)
            walk[t] = place
        seen = np.clip(walk + noise, 0, self.symbols - 1)
        return [(x.tolist(), y.tolist()) for x, y in zip(seen.T, walk.T, strict=True)]
