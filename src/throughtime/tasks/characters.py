"""Text, a character at a time: say the next one."""

import functools
import gzip
import hashlib
import math
import os
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import final

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from throughtime.core.errors import DataError
from throughtime.tasks.download import RemoteFile, cache_folder, fetch
from throughtime.tasks.options import check_at_least
from throughtime.tasks.seeding import generator
from throughtime.tasks.task import Batch, Split, Task

SHAKESPEARE = RemoteFile(
    "input.txt",
    ("https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt",),
    "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
)
"""A million characters of Shakespeare's plays, 65 different ones: public domain."""

_MOST_BYTES = 1 << 24  # of a text, unpacked: a file may unpack to a thousand times its size


@final
class Characters(Task):
    """The next character of a text, from those before it in a window.

    The first 90 % of the text are for training, the next 5 % for validation, the last for test.

    Arguments:
        text: of at least 20 * (length + 1) characters.
        length: characters of a window, at least 2.
        stream: whether each training batch goes on where the last one ended, so that a learner's
            state is carried along. The rows start evenly spread over the text, which starts over at
            its end. Held-out windows are the same, each from nothing.

    Inputs:
        (length, batch, alphabet) one-hot.

    Targets:
        (length, batch) the character that follows.

    Chance:
        who knows the last character alone: the table of pairs in the training text, 1 added to each
        count, on the validation text.

    Raises:
        ConfigurationError: a window below 2.
        DataError: too little text.

    Example:
        >>> task = Characters("to be or not to be " * 60, length=10)
        >>> task.input_size, task.training_batch(0, 4, seed=0).inputs.shape
        (7, torch.Size([10, 4, 7]))
    """

    name = "characters"
    answer = "class_per_step"
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
        self.input_size = self.output_size = len(alphabet)
        self.chance, self.chance_loss = self._by_pairs()

    def _by_pairs(self) -> tuple[float, float]:
        size = self.output_size
        counts = torch.ones(size, size, dtype=torch.float64)
        pairs = (self.training[:-1], self.training[1:])
        counts.index_put_(pairs, torch.ones(len(pairs[0])).double(), accumulate=True)
        logs = (counts / counts.sum(1, keepdim=True)).log()
        x, y = self.held_out["validation"][:-1], self.held_out["validation"][1:]
        right = float((logs.argmax(1)[x] == y).double().mean())
        return right, float(-logs[x, y].mean())

    def _windows(self, codes: Int[Tensor, " n"], starts: Int[Tensor, " batch"]) -> Batch:
        taken = codes[(starts + torch.arange(self.length + 1)[:, None]) % len(codes)]
        inputs = torch.nn.functional.one_hot(taken[:-1], self.input_size).float()
        return Batch(inputs, taken[1:].contiguous())

    def training_batch(self, step: int, batch_size: int, seed: int) -> Batch:
        """Windows from anywhere in the training text: the stream of (seed, "training", step). Where
        the task is a stream, those after the last step's, from places that the seed moves."""
        check_at_least("batch_size", batch_size, 1)
        if self.stream:
            count = len(self.training)
            first = int(generator(seed, "training", 0).integers(0, count))
            spread = torch.arange(batch_size) * count // batch_size
            return self._windows(self.training, first + step * self.length + spread)
        last = len(self.training) - self.length
        starts = generator(seed, "training", step).integers(0, last, batch_size)
        return self._windows(self.training, torch.from_numpy(starts.astype(np.int64)))

    def evaluation_batches(self, split: Split, batch_size: int) -> Iterator[Batch]:
        """Windows one after another; what is left at the end is not used."""
        check_at_least("batch_size", batch_size, 1)
        codes = self.held_out[split]
        starts = torch.arange(0, len(codes) - self.length, self.length)
        for part in starts.split(batch_size):
            yield self._windows(codes, part)

    def correct(
        self, outputs: Float[Tensor, "time batch output"], batch: Batch
    ) -> Bool[Tensor, "time batch"]:
        """Whether each next character has the largest output."""
        return outputs.argmax(-1) == batch.targets

    def solved(self, metrics: Mapping[str, float]) -> bool:
        """Loss below 1.5 bits."""
        return metrics["loss"] < 1.5 * math.log(2)


def characters(
    *, length: int = 100, stream: bool = False, data_dir: str | None = None
) -> Characters:
    """The next character of Shakespeare's plays, from those before it in a window.

    Arguments:
        length: characters of a window, at least 2.
        stream: whether each batch goes on where the last one ended; see `Characters`.
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
        data_dir: as for `characters`.
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
