"""A tiny MNIST: four idx files of 6 x 6 images, with their sums."""

import gzip
import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from throughtime.tasks.image_sets import IdxFile


@dataclass(frozen=True)
class SmallMnist:
    """Arrays, the files that hold them, and what the loader should expect."""

    arrays: tuple[np.ndarray, ...]
    files: tuple[IdxFile, ...]
    contents: tuple[bytes, ...]

    def write(self, folder: Path, *, compressed: bool) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        for file, content in zip(self.files, self.contents, strict=True):
            if compressed:
                (folder / f"{file.name}.gz").write_bytes(gzip.compress(content))
            else:
                (folder / file.name).write_bytes(content)
        return folder


@pytest.fixture
def small_mnist() -> SmallMnist:
    random = np.random.default_rng(0)
    arrays = (
        random.integers(0, 256, (30, 6, 6), np.uint8),
        random.integers(0, 10, 30).astype(np.uint8),
        random.integers(0, 256, (12, 6, 6), np.uint8),
        random.integers(0, 10, 12).astype(np.uint8),
    )
    names = (
        "train-images-idx3-ubyte",
        "train-labels-idx1-ubyte",
        "t10k-images-idx3-ubyte",
        "t10k-labels-idx1-ubyte",
    )
    contents = []
    for array in arrays:
        sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
        contents.append(bytes([0, 0, 8, array.ndim]) + sizes + array.tobytes())
    files = tuple(
        IdxFile(name, array.shape, hashlib.sha256(content).hexdigest())
        for name, array, content in zip(names, arrays, contents, strict=True)
    )
    return SmallMnist(arrays, files, tuple(contents))
