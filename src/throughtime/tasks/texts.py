"""Text as one stream of characters, words or subwords, each predicted from those before."""

import itertools
import math
from collections.abc import Iterator, Mapping
from typing import Any, Literal, TypeAlias, final

import torch
from jaxtyping import Integer
from torch import Tensor, nn

from throughtime.core.decoding import NextSymbol
from throughtime.core.errors import ConfigurationError, DataError
from throughtime.core.scoring import Mean, Metric, Score, perplexity
from throughtime.tasks.kinds import Likelihood, Tokens
from throughtime.tasks.seeding import generator
from throughtime.tasks.sequences import SequenceBatch
from throughtime.tasks.task import Split, Task, check_at_least
from throughtime.tasks.vocabulary import (
    CharacterVocabulary,
    SubwordVocabulary,
    Vocabulary,
    WordVocabulary,
)

Symbols: TypeAlias = Literal["characters", "words", "subwords"]
"""The kinds of symbols of a text."""

_HELD_OUT_STEPS = 1000  # symbols of a held-out batch
_USUAL_SIZES = {"words": 10_000, "subwords": 1_000}


@final
class Text(Task):
    """A text, predicted a symbol at a time; the state is carried over all of it.

        perplexity = exp(L / n)    bits per character = L / (c ln 2)

    L is the sum of the negative log-likelihoods of all n symbols in nats, ends of lines included;
    c is the number of their characters. Nothing is averaged over batches or lines.

    Rows of a training batch start evenly spread over the training text; each batch continues the
    one before it, and the text starts over at its end. Held-out text is one row: every symbol but
    the first is predicted from all symbols before it.

    Arguments:
        vocabulary: vocabulary of the text.
        codes: numbers of the symbols of each split, at least 18 * (length + 1) in training and 2
            in each other one.
        length: symbols of a training batch, at least 2; gradients go no further back.
        name: name of the task.

    Attributes:
        vocabularies: {"text": vocabulary}.
        codes: numbers of the symbols of each split.

    Inputs:
        (length, batch) int64 symbols.

    Targets:
        (length, batch) the symbols that follow.

    Chance:
        on the validation text: for characters, the table of pairs in the training text, so that the
        last character is the only one known; for words and subwords, their frequencies in the
        training text. 1 is added to each count.

    Raises:
        ConfigurationError: a length below 2.
        DataError: too little text.

    Example:
        >>> task = Text.of("to be or not to be " * 60, length=10)
        >>> next(task.batches("training", 4)).inputs.shape
        torch.Size([10, 4])
        >>> task.vocabularies["text"].decode([6, 4])
        'to'
    """

    answers = Likelihood()
    stream = True

    def __init__(
        self,
        vocabulary: Vocabulary,
        codes: Mapping[Split, Integer[Tensor, " n"]],
        *,
        length: int = 100,
        name: str = "text",
    ):
        check_at_least(f"length of task '{name}'", length, 2)
        self.name, self.vocabulary, self.codes = name, vocabulary, codes
        self.vocabularies = {"text": vocabulary}
        self.inputs = Tokens(len(vocabulary))
        self.length, self.dependency_length = length, length - 1
        by_characters = isinstance(vocabulary, CharacterVocabulary)
        least_sizes: dict[Split, int] = {
            "training": 18 * (length + 1),
            "validation": 2,
            "test": 2,
        }
        for split, least in least_sizes.items():
            if len(codes[split]) < least:
                raise DataError(
                    f"{split} text of task '{name}'",
                    got=f"{len(codes[split])} symbols",
                    expected=f"at least {least} for a length of {length}",
                )
        self._characters = None
        if isinstance(vocabulary, SubwordVocabulary):
            self._characters = torch.tensor(vocabulary.lengths())
        chance = chance_by_pairs if by_characters else _chance_by_frequency
        self.chance_loss = chance(len(vocabulary), codes)[1]
        self.criterion = (
            "fewer than 1.5 bits per character of held-out text (our choice)"
            if by_characters
            else "a perplexity below a tenth of that of the symbols' frequencies (our choice)"
        )

    @classmethod
    def of(
        cls,
        text: str,
        *,
        tokens: Symbols = "characters",
        size: int | None = None,
        least_count: int = 2,
        punctuation: bool = True,
        lines: bool = True,
        length: int = 100,
        name: str = "text",
    ) -> "Text":
        """Return the task of a text.

        The first 90 % of its characters are for training, the next 5 % for validation, the last for
        test; words are not cut. Words and subwords are those of the training text, characters those
        of all of it.

        Arguments:
            text: the text.
            tokens: kind of the symbols.
            size: largest number of symbols; None for 10,000 words, or 1,000 subwords.
            least_count: number of times that a word has to occur in the training text; rarer words
                are one symbol.
            punctuation: If True, punctuation marks are words of their own.
            lines: If True, a line break is a symbol; else a blank.
            length: symbols of a training batch, at least 2.
            name: name of the task.

        Raises:
            ConfigurationError: a length below 2, a size for characters or one that is too small, or
                the package for subwords is not installed.
            DataError: too little text.
        """
        if size is not None and tokens == "characters":
            raise ConfigurationError(
                f"size of task '{name}'", got=size, expected="none, since characters are all taken"
            )
        text = text if lines else text.replace("\n", " ")
        parts = _parts(text, whole_words=tokens != "characters")
        training = parts["training"]
        if tokens == "characters":
            vocabulary: Vocabulary = CharacterVocabulary.of(text) if text else _no_text(name)
        elif not training.strip():
            vocabulary = _no_text(name)
        else:
            size = _USUAL_SIZES[tokens] if size is None else size
            vocabulary = (
                WordVocabulary.of(
                    training, size=size, least_count=least_count, punctuation=punctuation
                )
                if tokens == "words"
                else SubwordVocabulary.of(training, size=size)
            )
        codes: dict[Split, Tensor] = {
            split: torch.tensor(vocabulary.encode(part), dtype=torch.int64)
            for split, part in parts.items()
        }
        return cls(vocabulary, codes, length=length, name=name)

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Bits per character, or perplexity, and the loss in nats per symbol."""
        bits = Metric("bits_per_character", "bits", "lower", self.chance_loss / math.log(2))
        loss = Metric("loss", "nats", "lower", self.chance_loss, tables=False)
        of_words = Metric("perplexity", "perplexity", "lower", math.exp(self.chance_loss))
        if isinstance(self.vocabulary, CharacterVocabulary):
            return bits, loss
        if self._characters is None:
            return of_words, loss
        return of_words, Metric("bits_per_character", "bits", "lower"), loss

    def batches(
        self, split: Split, size: int, *, seed: int = 0, start: int = 0
    ) -> Iterator[SequenceBatch]:
        """Return batches from places that the seed moves, or the held-out text in order."""
        check_at_least("batch_size", size, 1)
        codes = self.codes[split]
        if split == "training":
            count = len(codes)
            offset = int(generator(seed, "training", 0).integers(0, count))
            spread = offset + torch.arange(size) * count // size
            steps = torch.arange(self.length + 1)[:, None]
            places = (spread + k * self.length + steps for k in itertools.count(start))
            return (_batch(codes[place % count]) for place in places)
        firsts = range(start * _HELD_OUT_STEPS, len(codes) - 1, _HELD_OUT_STEPS)
        return (_batch(codes[first : first + _HELD_OUT_STEPS + 1, None]) for first in firsts)

    def score(
        self,
        model: nn.Module | NextSymbol,
        batch: SequenceBatch,
        *,
        state: Any = None,
        step: int | None = None,
    ) -> Score:
        """Return the mean negative log-likelihood of the targets in nats, and the model's state.

        Arguments:
            model: model of the next symbol; see `NextSymbol`.
            batch: part of the text.
            state: state after the part before.
            step: unused.
        """
        del step
        losses, state = model.losses(batch.inputs, batch.targets, state)  # pyright: ignore[reportCallIssue]
        due = batch.targets >= 0
        count, total = due.sum(), losses.detach().sum(dtype=torch.float64)
        parts = {"loss": Mean(total, count)}
        if self._characters is not None:
            lengths = self._characters.to(due.device)[batch.targets.clamp(min=0)]
            parts["nats_per_character"] = Mean(total, (lengths * due).sum())
        return Score(losses.sum() / count, parts, state)

    def report(self, parts: Mapping[str, Mean]) -> dict[str, float]:
        """Return "loss" in nats per symbol, "bits_per_character" and "perplexity", as they apply.

        Arguments:
            parts: merged parts of scores.
        """
        loss = parts["loss"].value
        if isinstance(self.vocabulary, CharacterVocabulary):
            return {"loss": loss, "bits_per_character": loss / math.log(2)}
        report = {"loss": loss, "perplexity": perplexity(loss)}
        if self._characters is not None:
            report["bits_per_character"] = parts["nats_per_character"].value / math.log(2)
        return report

    def examine(self, model: nn.Module, split: Split) -> dict[str, float]:
        """Return nothing: the score has all metrics.

        Arguments:
            model, split: unused.
        """
        del model, split
        return {}

    def last_answers(self, batch: SequenceBatch) -> SequenceBatch:
        """Return the last `length` symbols of the batch, of which the last target alone counts.

        Arguments:
            batch: part of the text.
        """
        inputs, targets = batch.inputs[-self.length :], batch.targets[-self.length :].clone()
        targets[:-1] = -1
        return SequenceBatch(inputs, targets)

    def solved(self, metrics: Mapping[str, float]) -> bool:
        """Return True if a character takes fewer than 1.5 bits, or a word is that well predicted.

        Arguments:
            metrics: held-out metrics.
        """
        if isinstance(self.vocabulary, CharacterVocabulary):
            return metrics["bits_per_character"] < 1.5
        return metrics["loss"] < self.chance_loss - math.log(10)


def _batch(taken: Tensor) -> SequenceBatch:
    taken = taken.long()
    return SequenceBatch(taken[:-1].contiguous(), taken[1:].contiguous())


def _no_text(name: str) -> Vocabulary:
    raise DataError(f"text of task '{name}'", got="none", expected="some text")


def _parts(text: str, *, whole_words: bool) -> dict[Split, str]:
    """Return the parts of a text: 90, 5 and 5 % of its characters, or to the next blank."""
    places = [len(text) * 9 // 10, len(text) * 19 // 20]
    if whole_words:
        places = [_next_blank(text, place) for place in places]
    first, second = places
    return {"training": text[:first], "validation": text[first:second], "test": text[second:]}


def _next_blank(text: str, place: int) -> int:
    """Return the place behind the next blank or line break of a text.

    Arguments:
        text: the text.
        place: place at which the search begins.
    """
    while place < len(text) and not text[place].isspace():
        place += 1
    return min(place + 1, len(text))


def chance_by_pairs(
    alphabet: int, codes: Mapping[Split, Integer[Tensor, " n"]]
) -> tuple[float, float]:
    """Return accuracy and loss in nats of the training text's pairs, 1 added to each count."""
    counts = torch.ones(alphabet * alphabet, dtype=torch.int64)
    for part in codes["training"].unfold(0, 2, 1).split(1 << 20):
        before, after = part.long().T
        counts += (before * alphabet + after).bincount(minlength=len(counts))
    table = counts.view(alphabet, alphabet).double()
    logs = (table / table.sum(1, keepdim=True)).log()
    x, y = codes["validation"].long().unfold(0, 2, 1).T
    return float((logs.argmax(1)[x] == y).double().mean()), float(-logs[x, y].mean())


def _chance_by_frequency(
    alphabet: int, codes: Mapping[Split, Integer[Tensor, " n"]]
) -> tuple[float, float]:
    """Return accuracy and loss in nats of the training text's frequencies, 1 added to each."""
    counts = codes["training"].long().bincount(minlength=alphabet).double() + 1
    logs = (counts / counts.sum()).log()
    y = codes["validation"].long()[1:]
    return float((y == logs.argmax()).double().mean()), float(-logs[y].mean())
