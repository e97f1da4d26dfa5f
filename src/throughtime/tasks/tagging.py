"""Tagging: a class for each symbol of a sequence, from a file of tokens and tags, or made up."""

import hashlib
import io
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias, final

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

from throughtime.core.errors import ConfigurationError, DataError
from throughtime.tasks.kinds import Classes, Tokens
from throughtime.tasks.seeding import generator, permutation
from throughtime.tasks.sequences import (
    GeneratedTask,
    Outputs,
    Right,
    SequenceBatch,
    SequenceTask,
    Targets,
    likeliest,
)
from throughtime.tasks.task import Split, check_at_least
from throughtime.tasks.vocabulary import WordVocabulary

Sentence: TypeAlias = Sequence[tuple[str, str]]
"""Tokens, each with its tag."""


@final
class SeenBefore(GeneratedTask):
    """Seen before: for each symbol, whether it occurred earlier in the sequence.

        y_t = 1 if x_t is one of x_1 ... x_{t-1}, else 0        x_t uniform in S symbols

    Arguments:
        symbols: S, at least 2.
        length: T, at least 2.

    Inputs:
        (length, batch) int64 symbols.

    Targets:
        (length, batch) classes.

    Chance:
        of step t: the likelier of p and 1 - p, p = 1 - (1 - 1/S)^(t-1); and their entropy.

    Raises:
        ConfigurationError: an option out of range.

    Example:
        >>> batch = next(SeenBefore(length=5).batches("training", 3))
        >>> batch.inputs.shape, batch.targets[0].tolist()
        (torch.Size([5, 3]), [0, 0, 0])
    """

    name = "tagging"
    inputs: Tokens  # pyright: ignore[reportIncompatibleVariableOverride]
    criterion = "accuracy of at least 99 % (our choice)"

    def __init__(self, *, symbols: int = 10, length: int = 20):
        check_at_least("symbols of task 'tagging'", symbols, 2)
        check_at_least("length of task 'tagging'", length, 2)
        self.inputs = Tokens(symbols)  # pyright: ignore[reportIncompatibleVariableOverride]
        self.answers = Classes(2, per_step=True)
        self.length, self.dependency_length = length, length - 1
        p = 1 - (1 - 1 / symbols) ** np.arange(length)
        self.chance = float(np.maximum(p, 1 - p).mean())
        inner = p[1:]  # the first is certain
        nats = -(inner * np.log(inner) + (1 - inner) * np.log(1 - inner))
        self.chance_loss = float(nats.sum() / length)

    def draw(self, random: np.random.Generator, batch_size: int) -> SequenceBatch:
        """Return sequences of independent, equally probable symbols.

        Arguments:
            random: source of random numbers.
            batch_size: number of sequences.
        """
        symbols = random.integers(0, self.inputs.alphabet, (self.length, batch_size))
        same = symbols[:, None] == symbols[None]
        earlier = np.tril(np.ones((self.length, self.length), bool), -1)[..., None]
        seen = (same & earlier).any(1).astype(np.int64)
        return SequenceBatch(torch.from_numpy(symbols), torch.from_numpy(seen))

    def right(self, outputs: Outputs, targets: Targets) -> Right:
        """Return True for the classes with the largest output.

        Arguments:
            outputs: outputs of a model.
            targets: classes.
        """
        return likeliest(outputs, targets)

    def solved(self, metrics: Mapping[str, float]) -> bool:
        """Accuracy of at least 0.99.

        Arguments:
            metrics: held-out metrics.
        """
        return metrics["accuracy"] >= 0.99


@final
class TaggedSentences(SequenceTask):
    """The tag of each token of a sentence.

    Of the sentences, drawn at random once, 90 % are for training, 5 % for validation, the rest for
    test.

    Arguments:
        sentences: sentences, at least 20, none empty.
        least_count: number of times that a token has to occur in training; rarer ones are one
            symbol.

    Inputs:
        (time, batch) int64 tokens, 0 beyond a sentence's end.

    Targets:
        (time, batch) tags, -1 beyond a sentence's end.

    Chance:
        the most frequent tag; the entropy of the tags. Both in the training sentences.

    Raises:
        DataError: fewer than 20 sentences, or an empty one.
        ConfigurationError: a count below 1.

    Example:
        >>> task = TaggedSentences([[("the", "D"), ("dog", "N")]] * 20)
        >>> task.tags, next(task.batches("test", 1)).targets.tolist()
        (('D', 'N'), [[0], [1]])
    """

    name = "tagging"
    inputs: Tokens  # pyright: ignore[reportIncompatibleVariableOverride]
    criterion = "none: the run makes all its steps (our choice)"

    def __init__(self, sentences: Sequence[Sentence], *, least_count: int = 1):
        if len(sentences) < 20 or not all(sentences):
            got = f"{len(sentences)} sentences" if all(sentences) else "an empty sentence"
            raise DataError(
                f"text of task '{self.name}'", got=got, expected="at least 20, not empty"
            )
        order = permutation(len(sentences), 0, "split").tolist()
        held = max(1, len(order) // 20)
        numbers: dict[Split, list[int]] = {
            "validation": order[:held],
            "test": order[held : 2 * held],
            "training": order[2 * held :],
        }
        training = [sentences[k] for k in numbers["training"]]
        text = "\n".join(" ".join(token for token, _ in s) for s in training)
        words = WordVocabulary.of(text, least_count=least_count)
        self.vocabularies = {"source": words}
        self.tags = tuple(sorted({tag for s in sentences for _, tag in s}))
        places = {tag: place for place, tag in enumerate(self.tags)}
        self.sentences = {
            split: [
                (
                    torch.tensor(words.encode(" ".join(token for token, _ in sentences[k]))),
                    torch.tensor([places[tag] for _, tag in sentences[k]]),
                )
                for k in chosen
            ]
            for split, chosen in numbers.items()
        }
        self.inputs = Tokens(len(words))  # pyright: ignore[reportIncompatibleVariableOverride]
        self.answers = Classes(len(self.tags), per_step=True)
        self.length = max(len(s) for s in sentences)
        self.dependency_length = max(1, self.length - 1)
        counts = torch.bincount(torch.cat([tags for _, tags in self.sentences["training"]]))
        shares = counts[counts > 0].double() / counts.sum()
        self.chance = float(shares.max())
        self.chance_loss = float(-(shares * shares.log()).sum())

    def batches(
        self, split: Split, size: int, *, seed: int = 0, start: int = 0
    ) -> Iterator[SequenceBatch]:
        """Return sentences drawn at random, or the held-out ones in order.

        Arguments:
            split: "training", which never ends, or held-out sentences.
            size: sentences of a batch.
            seed: seed of the run.
            start: step of the first batch.
        """
        check_at_least("batch_size", size, 1)
        own = self.sentences[split]
        if split == "training":
            draws = (
                generator(seed, split, k).integers(0, len(own), size)
                for k in itertools.count(start)
            )
        else:
            draws = (range(k, min(k + size, len(own))) for k in range(start * size, len(own), size))
        for numbers in draws:
            chosen = [own[int(k)] for k in numbers]
            yield SequenceBatch(
                pad_sequence([tokens for tokens, _ in chosen]),
                pad_sequence([tags for _, tags in chosen], padding_value=-1),
                torch.tensor([len(tokens) for tokens, _ in chosen]),
            )

    def right(self, outputs: Outputs, targets: Targets) -> Right:
        """Return True for the tags with the largest output.

        Arguments:
            outputs: outputs of a model.
            targets: tags.
        """
        return likeliest(outputs, targets)

    def solved(self, metrics: Mapping[str, float]) -> bool:
        """Return False.

        Arguments:
            metrics: unused.
        """
        del metrics
        return False


def tagging(
    *,
    file: str | None = None,
    least_count: int = 2,
    symbols: int = 10,
    length: int = 20,
    sha256: str | None = None,
    data_dir: str | None = None,
) -> SeenBefore | TaggedSentences:
    """A tag for each token of a file; without one, whether each symbol occurred before.

    Arguments:
        file: path of a text file in UTF-8: a token and its tag on each line, with blanks between
            them, and an empty line between two sentences.
        least_count: number of times that a token has to occur in the training sentences.
        symbols, length: options of `SeenBefore`, for no file.
        sha256: SHA-256 of the file, or its first 16 hexadecimal digits or more; a file of another
            content is refused. A run adds it to its configuration.
        data_dir: folder of the file.

    Raises:
        ConfigurationError: an option out of range, or a checksum that is none, or without a file.
        DataError: the file is missing, or no text, or a line has no tag.
    """
    if sha256 is not None and not (file and re.fullmatch(r"[0-9a-f]{16,64}", sha256)):
        raise ConfigurationError(
            "sha256 of task 'tagging'",
            got=f"{sha256!r} for {file or 'no file'}",
            expected="16 to 64 hexadecimal digits in small letters, for a file",
        )
    if file is None:
        return SeenBefore(symbols=symbols, length=length)
    path = Path(data_dir or "", file).expanduser()
    try:
        content = path.read_bytes()
        text = io.StringIO(content.decode("utf-8-sig"), newline=None).read()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(str(path), got=str(error), expected="a text file in UTF-8") from error
    found = hashlib.sha256(content).hexdigest()
    if sha256 is not None and not found.startswith(sha256):
        raise DataError(
            str(path),
            got=f"SHA-256 {found[: len(sha256)]}",
            expected=sha256,
            fix="Bring the file back as it was, or leave sha256 out in a new folder.",
        )
    task = TaggedSentences(_sentences(str(path), text), least_count=least_count)
    task.sha256 = found[:16]
    return task


def _sentences(path: str, text: str) -> list[Sentence]:
    sentences: list[list[tuple[str, str]]] = [[]]
    for number, line in enumerate(text.split("\n"), start=1):
        parts = line.split()
        if not parts:
            sentences.append([])
        elif len(parts) == 2:
            sentences[-1].append((parts[0], parts[1]))
        else:
            raise DataError(
                f"{path}, line {number}",
                got=repr(line[:80]),
                expected="a token and a tag, or an empty line between sentences",
            )
    return [sentence for sentence in sentences if sentence]
