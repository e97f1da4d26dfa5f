"""Text, a character at a time: predict the next one, in windows or in one long stream."""

import functools
import hashlib
import io
import itertools
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Int
from torch import Tensor, nn

from throughtime.core.errors import ConfigurationError, DataError
from throughtime.core.scoring import Mean, Metric, Score
from throughtime.tasks.download import RemoteFile, data_folder, found, unpacked
from throughtime.tasks.kinds import Classes, Likelihood, Tokens, Vectors
from throughtime.tasks.seeding import generator
from throughtime.tasks.sequences import (
    Outputs,
    Right,
    SequenceBatch,
    SequenceTask,
    Targets,
    likeliest,
)
from throughtime.tasks.task import Split, Task, check_at_least

SHAKESPEARE = RemoteFile(
    "input.txt",
    ("https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt",),
    "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
)
"""A million characters of Shakespeare's plays, 65 different ones: public domain."""

_MOST_BYTES = 1 << 24  # of a text, unpacked: a file may unpack to a thousand times its size


@final
class Characters(SequenceTask):
    """The next character of a text, from those before it in a window.

    The first 90 % of the text are for training, the next 5 % for validation, the last for test.

    Arguments:
        text: text of at least 20 * (length + 1) characters.
        length: characters of a window, at least 2.
        stream: If True, each training batch continues the one before it, so that a learner's
            state is carried along. The rows start evenly spread over the text, which starts over at
            its end. Held-out windows are the same, each from nothing.

    Inputs:
        (length, batch, alphabet) one-hot.

    Targets:
        (length, batch) the character that follows.

    Chance:
        the table of pairs in the training text, 1 added to each count, on the validation text: the
        last character is the only one known.

    Raises:
        ConfigurationError: a window below 2.
        DataError: too little text.

    Example:
        >>> task = Characters("to be or not to be " * 60, length=10)
        >>> next(task.batches("training", 4)).inputs.shape
        torch.Size([10, 4, 7])
    """

    name = "characters"
    criterion = "test loss below 1.5 bits a character (our choice)"

    def __init__(self, text: str, *, length: int = 100, stream: bool = False):
        self.alphabet, self.codes = _split(self.name, text, length)
        self.length, self.stream = length, stream
        self.dependency_length = length - 1
        self.inputs = Vectors(len(self.alphabet))
        self.answers = Classes(len(self.alphabet), per_step=True)
        self.chance, self.chance_loss = _chance_by_pairs(len(self.alphabet), self.codes)

    def _windows(self, codes: Int[Tensor, " n"], starts: Int[Tensor, " batch"]) -> SequenceBatch:
        taken = codes[(starts + torch.arange(self.length + 1)[:, None]) % len(codes)]
        inputs = torch.nn.functional.one_hot(taken[:-1], self.inputs.width).float()
        return SequenceBatch(inputs, taken[1:].contiguous())

    def batches(
        self, split: Split, size: int, *, seed: int = 0, start: int = 0
    ) -> Iterator[SequenceBatch]:
        """Return windows from anywhere in the training text, or held-out windows in order.

        On a stream, training windows follow those of the step before, from places that the seed
        moves. Characters left over at the end of a held-out text are not used.
        """
        check_at_least("batch_size", size, 1)
        if split == "training":
            return (self._training_batch(step, size, seed) for step in itertools.count(start))
        codes = self.codes[split]
        starts = torch.arange(start * size * self.length, len(codes) - self.length, self.length)
        return (self._windows(codes, part) for part in starts.split(size) if len(part))

    def _training_batch(self, step: int, batch_size: int, seed: int) -> SequenceBatch:
        training = self.codes["training"]
        if self.stream:
            count = len(training)
            first = int(generator(seed, "training", 0).integers(0, count))
            spread = torch.arange(batch_size) * count // batch_size
            return self._windows(training, first + step * self.length + spread)
        last = len(training) - self.length
        starts = generator(seed, "training", step).integers(0, last, batch_size)
        return self._windows(training, torch.from_numpy(starts.astype(np.int64)))

    def right(self, outputs: Outputs, targets: Targets) -> Right:
        """Return True for the classes with the largest output."""
        return likeliest(outputs, targets)

    def solved(self, metrics: Mapping[str, float]) -> bool:
        """Loss below 1.5 bits."""
        return metrics["loss"] < 1.5 * math.log(2)


def _split(task: str, text: str, length: int) -> tuple[str, Mapping[Split, Int[Tensor, " n"]]]:
    """Return the alphabet of a text, and the places in it of the characters of each split."""
    check_at_least(f"length of task '{task}'", length, 2)
    alphabet = "".join(sorted(set(text)))
    places = {character: k for k, character in enumerate(alphabet)}
    codes = torch.tensor([places[character] for character in text], dtype=torch.int64)
    if len(codes) < 20 * (length + 1):
        raise DataError(
            f"text of task '{task}'",
            got=f"{len(codes)} characters",
            expected=f"at least {20 * (length + 1)} for a length of {length}",
        )
    first, second = len(codes) * 9 // 10, len(codes) * 19 // 20
    training, validation, test = codes[:first], codes[first:second], codes[second:]
    return alphabet, {"training": training, "validation": validation, "test": test}


def _chance_by_pairs(
    alphabet: int, codes: Mapping[Split, Int[Tensor, " n"]]
) -> tuple[float, float]:
    """Return accuracy and loss in nats of the training text's pairs, 1 added to each count."""
    counts = torch.ones(alphabet, alphabet, dtype=torch.float64)
    pairs = (codes["training"][:-1], codes["training"][1:])
    counts.index_put_(pairs, torch.ones(len(pairs[0])).double(), accumulate=True)
    logs = (counts / counts.sum(1, keepdim=True)).log()
    x, y = codes["validation"][:-1], codes["validation"][1:]
    return float((logs.argmax(1)[x] == y).double().mean()), float(-logs[x, y].mean())


def characters(
    *, length: int = 100, stream: bool = False, data_dir: str | None = None
) -> Characters:
    """The next character of Shakespeare's plays, from those before it in a window.

    Arguments:
        length: characters of a window, at least 2.
        stream: If True, each batch continues the one before it; see `Characters`.
        data_dir: folder that holds input.txt, or input.txt.gz, itself or in a subfolder
            tinyshakespeare; that of THROUGHTIME_DATA if None; downloaded if that is unset.

    Raises:
        ConfigurationError: a window below 2.
        DataError: the file is missing, or not the one that it should be.

    Source:
        A. Karpathy's char-rnn (2015), for the selection.
    """
    return Characters(read_text(data_dir), length=length, stream=stream)


def read_text(data_dir: str | Path | None = None, *, file: RemoteFile = SHAKESPEARE) -> str:
    """A text whose bytes are checked by their sum.

    Raises:
        DataError: the file is missing, or not the one that it should be.
    """
    return _read(data_folder(data_dir, "tinyshakespeare", (file,)), file)


@functools.lru_cache(maxsize=1)
def _read(folder: Path, file: RemoteFile) -> str:
    path = found(folder, "tinyshakespeare", file.name)
    if path is None:
        raise DataError(
            f"no text in {folder}",
            got="no such folder" if not folder.is_dir() else f"no {file.name}",
            expected=f"{file.name} or {file.name}.gz, there or in its subfolder tinyshakespeare",
            fix="Point --data-dir or THROUGHTIME_DATA at its folder, or set neither to get it.",
        )
    content = unpacked(path, _MOST_BYTES)
    if len(content) > _MOST_BYTES:
        raise DataError(
            str(path), got=f"more than {_MOST_BYTES:,} bytes", expected=f"SHA-256 {file.sha256}"
        )
    sha256 = hashlib.sha256(content).hexdigest()
    if sha256 != file.sha256:
        raise DataError(str(path), got=f"SHA-256 {sha256}", expected=file.sha256)
    return content.decode()


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
        self.alphabet, self.codes = _split(self.name, text, length)
        self.inputs = Tokens(len(self.alphabet))
        self.length, self.dependency_length = length, length - 1
        _, self.chance_loss = _chance_by_pairs(len(self.alphabet), self.codes)

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
