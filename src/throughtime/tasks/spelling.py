"""Spelling numbers out: one vector becomes a sequence of words."""

import collections
import math
from collections.abc import Mapping
from typing import final

import numpy as np
from jaxtyping import Float
from torch import Tensor, nn

from throughtime.core.errors import ConfigurationError
from throughtime.core.scoring import Metric
from throughtime.tasks.kinds import Pairs, Tokens, Vector
from throughtime.tasks.pairs import Pair, PairSet, sequence_accuracy
from throughtime.tasks.seeding import permutation
from throughtime.tasks.task import Split
from throughtime.tasks.vocabulary import BEGIN, END, UNKNOWN, WordVocabulary

_SMALL = [
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
    *("eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen"),
    *("eighteen", "nineteen"),
]
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]


def spelled(number: int) -> list[str]:
    """Return the English words of a number, without "and".

    Arguments:
        number: number from 0 to 999,999.

    Example:
        >>> " ".join(spelled(40_213))
        'forty thousand two hundred thirteen'
    """
    if number < 20:
        return [_SMALL[number]]
    for size, name in ((1000, "thousand"), (100, "hundred")):
        if number >= size:
            rest = spelled(number % size) if number % size else []
            return [*spelled(number // size), name, *rest]
    ones = [_SMALL[number % 10]] if number % 10 else []
    return [_TENS[number // 10 - 2], *ones]


@final
class Spelling(PairSet):
    """Spelling: the digits of a number as one vector, to be written in English words.

        4213  ->  four thousand two hundred thirteen END

    A tenth of all numbers are for validation, a tenth for test; neither is trained on.

    Arguments:
        digits: number of digits, from 2 to 6.

    Inputs:
        (batch, 10 digits) one-hot digits side by side, zeros in front.

    Targets:
        the words, and the end.

    Chance:
        the best answer that reads no source: the frequencies of the next word after the words
        before, over all numbers; ln 10^digits nats a number.

    Raises:
        ConfigurationError: an option out of range.

    Example:
        >>> task = Spelling(digits=2)
        >>> batch = next(task.batches("training", 4))
        >>> batch.source.shape, batch.source_lengths
        (torch.Size([4, 20]), None)
    """

    name = "spelling"
    criterion = "accuracy of words of at least 99 % (our choice)"

    def __init__(self, *, digits: int = 4):
        if not 2 <= digits <= 6:
            raise ConfigurationError(
                "digits of task 'spelling'", got=digits, expected="a number from 2 to 6"
            )
        count = 10**digits
        symbols = [UNKNOWN, BEGIN, END, *_SMALL, *_TENS, "hundred", "thousand"]
        words = WordVocabulary(symbols)
        self.vocabularies = {"target": words}
        assert words.begin is not None
        assert words.end is not None
        self.begin, self.end = words.begin, words.end
        self.inputs = Pairs(Vector(10 * digits), Tokens(len(words)))
        places = {word: place for place, word in enumerate(symbols)}
        targets = [[places[word] for word in spelled(number)] for number in range(count)]
        one_hot = np.eye(10, dtype=np.float32)
        powers = 10 ** np.arange(digits - 1, -1, -1)
        order = permutation(count, 0, "split").tolist()
        held = count // 10

        def pairs(numbers: list[int]) -> list[Pair]:
            of_digits = np.array(numbers)[:, None] // powers % 10
            sources = one_hot[of_digits].reshape(len(numbers), -1)
            return list(zip(sources, (targets[n] for n in numbers), strict=True))

        numbers: dict[Split, list[int]] = {
            "validation": order[:held],
            "test": order[held : 2 * held],
            "training": order[2 * held :],
        }
        self.pairs = {split: pairs(chosen) for split, chosen in numbers.items()}
        self.longest_target = max(map(len, targets))
        self.length = self.longest_target + 2
        self.dependency_length = self.longest_target + 1
        self.chance, self.chance_loss = _chance(targets, self.end)

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Accuracy of words, loss, and accuracy of whole numbers."""
        return (
            Metric("accuracy", "fraction", "higher", self.chance),
            Metric("loss", "nats", "lower", self.chance_loss, tables=False),
            Metric("sequence_accuracy", "fraction", "higher"),
        )

    def examine(self, model: nn.Module, split: Split) -> dict[str, float]:
        """Return "sequence_accuracy", the fraction of numbers that greedy decoding gives whole.

        Arguments:
            model: trained model.
            split: held-out numbers.
        """
        pairs, most = self.pairs[split], self.longest_target
        right = sequence_accuracy(model, pairs, begin=self.begin, end=self.end, most=most)
        return {"sequence_accuracy": right}

    def number(self, source: Float[Tensor, " width"]) -> str:
        """Return the digits of a source.

        Arguments:
            source: one-hot vectors of the digits, one after the other.

        Example:
            >>> import torch
            >>> task = Spelling(digits=2)
            >>> task.number(torch.eye(10)[[4, 2]].flatten())
            '42'
        """
        return "".join(map(str, source.view(-1, 10).argmax(1).tolist()))

    def solved(self, metrics: Mapping[str, float]) -> bool:
        """Accuracy of at least 0.99.

        Arguments:
            metrics: held-out metrics.
        """
        return metrics["accuracy"] >= 0.99


def _chance(targets: list[list[int]], end: int) -> tuple[float, float]:
    """Return accuracy and loss of the frequencies of the next symbol after those before."""
    following: dict[tuple[int, ...], collections.Counter[int]] = {}
    for target in targets:
        whole = (*target, end)
        for place, symbol in enumerate(whole):
            following.setdefault(whole[:place], collections.Counter())[symbol] += 1
    total = sum(counts.total() for counts in following.values())
    right = sum(max(counts.values()) for counts in following.values())
    return right / total, len(targets) * math.log(len(targets)) / total
