"""Text, a character at a time: predict the next one."""

import functools
import gzip
import hashlib
import itertools
import math
import os
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import final

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from throughtime.core.errors import DataError
from throughtime.tasks.download import RemoteFile, cache_folder, fetch
from throughtime.tasks.kinds import Classes, Vectors
from throughtime.tasks.options import check_at_least
from throughtime.tasks.seeding import generator
from throughtime.tasks.sequences import (
    Outputs,
    Right,
    SequenceBatch,
    SequenceTask,
    Targets,
    likeliest,
)
from throughtime.tasks.task import Split

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
        check_at_least("length of task 'characters'", length, 2)
        alphabet = sorted(set(text))
        places = {character: k for k, character in enumerate(alphabet)}
        codes = torch.tensor([places[character] for character in text], dtype=torch.int64)
        cuts = (len(codes) * 9 // 10, len(codes) * 19 // 20)
        if len(codes) < 20 * (length + 1):
            raise DataError(
                "text of task 'characters'",
                got=f"{len(codes)} characters",
                expected=f"at least {20 * (length + 1)} for windows of {length}",
            )
        self.training = codes[: cuts[0]]
        self.held_out = {"validation": codes[cuts[0] : cuts[1]], "test": codes[cuts[1] :]}
        self.alphabet = "".join(alphabet)
        self.length, self.stream = length, stream
        self.dependency_length = length - 1
        self.inputs = Vectors(len(alphabet))
        self.answers = Classes(len(alphabet), per_step=True)
        self.chance, self.chance_loss = chance_by_pairs(
            len(alphabet), self.training, self.held_out["validation"]
        )

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
        codes = self.held_out[split]
        starts = torch.arange(start * size * self.length, len(codes) - self.length, self.length)
        return (self._windows(codes, part) for part in starts.split(size) if len(part))

    def _training_batch(self, step: int, batch_size: int, seed: int) -> SequenceBatch:
        if self.stream:
            count = len(self.training)
            first = int(generator(seed, "training", 0).integers(0, count))
            spread = torch.arange(batch_size) * count // batch_size
            return self._windows(self.training, first + step * self.length + spread)
        last = len(self.training) - self.length
        starts = generator(seed, "training", step).integers(0, last, batch_size)
        return self._windows(self.training, torch.from_numpy(starts.astype(np.int64)))

    def right(self, outputs: Outputs, targets: Targets) -> Right:
        """Return True for the classes with the largest output."""
        return likeliest(outputs, targets)

    def solved(self, metrics: Mapping[str, float]) -> bool:
        """Loss below 1.5 bits."""
        return metrics["loss"] < 1.5 * math.log(2)


def chance_by_pairs(
    alphabet: int, training: Int[Tensor, " n"], held_out: Int[Tensor, " m"]
) -> tuple[float, float]:
    """Return accuracy and loss in nats of the table of pairs, 1 added to each count.

    Arguments:
        alphabet: number of characters.
        training: text whose pairs are counted.
        held_out: text to be predicted.
    """
    counts = torch.ones(alphabet, alphabet, dtype=torch.float64)
    pairs = (training[:-1], training[1:])
    counts.index_put_(pairs, torch.ones(len(pairs[0])).double(), accumulate=True)
    logs = (counts / counts.sum(1, keepdim=True)).log()
    x, y = held_out[:-1], held_out[1:]
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

    Arguments:
        data_dir: folder of the text, of `characters`.
        file: its name, where it is, and its sum.

    Raises:
        DataError: the file is missing, or not the one that it should be.
    """
    chosen = data_dir if data_dir is not None else os.environ.get("THROUGHTIME_DATA") or None
    if chosen is None:
        folder = cache_folder() / "tinyshakespeare"
        fetch((file,), folder)
    else:
        folder = Path(chosen).expanduser()
    return _read(folder.resolve(), file)


@functools.lru_cache(maxsize=1)
def _read(folder: Path, file: RemoteFile) -> str:
    places = [
        base / name
        for base in (folder, folder / "tinyshakespeare")
        for name in (file.name, f"{file.name}.gz")
    ]
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        raise DataError(
            f"no text in {folder}",
            got="no such folder" if not folder.is_dir() else f"no {file.name}",
            expected=f"{file.name} or {file.name}.gz, there or in its subfolder tinyshakespeare",
            fix="Point --data-dir or THROUGHTIME_DATA at its folder, or set neither to get it.",
        )
    opened = gzip.open if path.suffix == ".gz" else open
    try:
        with opened(path, "rb") as stream:
            content = stream.read(_MOST_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(
            str(path),
            got=str(error),
            expected="a whole gzip file" if path.suffix == ".gz" else "a file that can be read",
        ) from error
    if len(content) > _MOST_BYTES:
        raise DataError(
            str(path), got=f"more than {_MOST_BYTES:,} bytes", expected=f"SHA-256 {file.sha256}"
        )
    found = hashlib.sha256(content).hexdigest()
    if found != file.sha256:
        raise DataError(str(path), got=f"SHA-256 {found}", expected=file.sha256)
    return content.decode()
