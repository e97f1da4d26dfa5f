"""Text as one long stream of characters, and the bits that a language model needs for it."""

import hashlib
import io
import itertools
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from throughtime.core.errors import ConfigurationError, DataError
from throughtime.core.scoring import Mean, Metric, Score
from throughtime.tasks.characters import chance_by_pairs, read_text
from throughtime.tasks.kinds import Likelihood, Tokens
from throughtime.tasks.options import check_at_least
from throughtime.tasks.seeding import generator
from throughtime.tasks.sequences import SequenceBatch
from throughtime.tasks.task import Split, Task

_HELD_OUT_STEPS = 1000  # characters of a held-out batch


@final
class Text(Task):
    """A text, predicted a character at a time; the state is carried over all of it.

    The first 90 % of the text are for training, the next 5 % for validation, the last for test.
    Rows of a training batch start evenly spread over the training text; each batch continues the
    one before it, and the text starts over at its end. Held-out text is one row: every character
    but the first is predicted from all characters before it.

    Arguments:
        text: text of at least 20 * (length + 1) characters.
        length: characters of a training batch, at least 2; gradients go no further back.

    Inputs:
        (length, batch) int64 symbols, characters in alphabetical order.

    Targets:
        (length, batch) the characters that follow.

    Chance:
        the table of pairs in the training text, 1 added to each count, on the validation text: the
        last character is the only one known.

    Raises:
        ConfigurationError: a length below 2.
        DataError: too little text.

    Example:
        >>> task = Text("to be or not to be " * 60, length=10)
        >>> next(task.batches("training", 4)).inputs.shape
        torch.Size([10, 4])
    """

    name = "text"
    answers = Likelihood()
    criterion = "fewer than 1.5 bits per character of held-out text (our choice)"
    stream = True

    def __init__(self, text: str, *, length: int = 100):
        check_at_least("length of task 'text'", length, 2)
        self.alphabet = "".join(sorted(set(text)))
        places = {character: k for k, character in enumerate(self.alphabet)}
        codes = torch.tensor([places[character] for character in text], dtype=torch.int64)
        if len(codes) < 20 * (length + 1):
            raise DataError(
                "text of task 'text'",
                got=f"{len(codes)} characters",
                expected=f"at least {20 * (length + 1)} for batches of {length}",
            )
        first, second = len(codes) * 9 // 10, len(codes) * 19 // 20
        self.codes: Mapping[Split, Tensor] = {
            "training": codes[:first],
            "validation": codes[first:second],
            "test": codes[second:],
        }
        self.inputs = Tokens(len(self.alphabet))
        self.length, self.dependency_length = length, length - 1
        _, self.chance_loss = chance_by_pairs(
            len(self.alphabet), self.codes["training"], self.codes["validation"]
        )

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Bits per character, and the same in nats."""
        bits = self.chance_loss / math.log(2)
        return (
            Metric("bits_per_character", "bits", "lower", bits),
            Metric("loss", "nats", "lower", self.chance_loss, tables=False),
        )

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
        model: nn.Module,
        batch: SequenceBatch,
        *,
        state: Any = None,
        step: int | None = None,
    ) -> Score:
        """Return the mean negative log-likelihood of the targets in nats, and the model's state.

        Arguments:
            model: called as model(symbols, state); returns logits and a state.
            batch: part of the text.
            state: state after the part before.
            step: unused.
        """
        del step
        logits, state = model(batch.inputs, state)
        loss = F.cross_entropy(logits.flatten(0, 1), batch.targets.flatten(), ignore_index=-1)
        count = (batch.targets >= 0).sum()
        return Score(loss, {"loss": Mean(loss.detach().double() * count, count)}, state)

    def report(self, parts: Mapping[str, Mean]) -> dict[str, float]:
        """Return "loss" in nats and "bits_per_character".

        Arguments:
            parts: merged parts of scores.
        """
        loss = parts["loss"].value
        return {"loss": loss, "bits_per_character": loss / math.log(2)}

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
        """Return True if a character takes fewer than 1.5 bits.

        Arguments:
            metrics: held-out metrics.
        """
        return metrics["bits_per_character"] < 1.5


def _batch(taken: Tensor) -> SequenceBatch:
    return SequenceBatch(taken[:-1].contiguous(), taken[1:].contiguous())


def text(
    *,
    length: int = 100,
    file: str | None = None,
    sha256: str | None = None,
    data_dir: str | None = None,
) -> Text:
    """Characters of a text as one stream, for language models; the headline is bits per character.

    Arguments:
        length: characters of a training batch, at least 2.
        file: path of a text file in UTF-8; the plays of `characters` if None.
        sha256: SHA-256 of the file, or its first 16 hexadecimal digits or more; a file of another
            content is refused. A run adds it to its configuration.
        data_dir: folder of the file, or of input.txt as for the task `characters`.

    Raises:
        ConfigurationError: a length below 2, or a checksum that is none, or without a file.
        DataError: the file is missing, or no text, or not the one that it should be.
    """
    if sha256 is not None and not (file and re.fullmatch(r"[0-9a-f]{16,64}", sha256)):
        raise ConfigurationError(
            "sha256 of task 'text'",
            got=f"{sha256!r} for {file or 'no file'}",
            expected="16 to 64 hexadecimal digits in small letters, for a file",
        )
    if file is None:
        return Text(read_text(data_dir), length=length)
    path = Path(data_dir or "", file).expanduser()
    try:
        content = path.read_bytes()
        read = io.StringIO(content.decode(), newline=None).read()  # each end of a line is "\n"
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
    task = Text(read, length=length)
    task.sha256 = found[:16]
    return task
