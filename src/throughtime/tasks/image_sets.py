"""Sets of labelled grey images, split three ways: the digits in this package, and MNIST."""

import functools
import hashlib
import importlib.resources
import io
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Int64, UInt8

from throughtime.core.errors import DataError
from throughtime.tasks.download import RemoteFile, data_folder, found, unpacked
from throughtime.tasks.seeding import permutation


@dataclass(frozen=True)
class IdxFile:
    """An idx file of unsigned bytes, as it should be.

    Attributes:
        name: file name without ".gz".
        shape: shape of the array in it.
        sha256: checksum of the uncompressed file, in hexadecimal; other compressions of it
            are as good.
    """

    name: str
    shape: tuple[int, ...]
    sha256: str

    @property
    def header(self) -> bytes:
        """Two zeros, 8 for unsigned bytes, the rank, then each size as four big-endian bytes."""
        sizes = b"".join(size.to_bytes(4, "big") for size in self.shape)
        return bytes((0, 0, 8, len(self.shape))) + sizes


def read_idx(path: Path, expected: IdxFile) -> UInt8[np.ndarray, "..."]:
    """The array in an idx file, read-only.

    Raises:
        DataError: the file cannot be read, is cut short, corrupt, or another file;
            the message names the file.
    """
    header = expected.header
    size = len(header) + math.prod(expected.shape)
    content = unpacked(path, size)
    again = "Delete it and get it again."
    if content[: len(header)] != header:
        raise DataError(
            f"{path} is not {expected.name}",
            got=f"a first part of {content[: len(header)].hex(' ') or '(nothing)'}",
            expected=f"{header.hex(' ')}, an idx file of shape {expected.shape}",
            fix=again,
        )
    if len(content) != size:
        state = "cut short" if len(content) < size else "too long"
        got = f"{len(content):,} bytes" if len(content) < size else f"more than {size:,} bytes"
        raise DataError(f"{path} is {state}", got=got, expected=f"{size:,} bytes", fix=again)
    sha256 = hashlib.sha256(content).hexdigest()
    if sha256 != expected.sha256:
        raise DataError(
            f"{path} is corrupt or not {expected.name}",
            got=f"SHA-256 {sha256} (uncompressed)",
            expected=expected.sha256,
            fix=again,
        )
    return np.frombuffer(content, np.uint8, offset=len(header)).reshape(expected.shape)


class LabelledImages(NamedTuple):
    """Images and what they show.

    Attributes:
        images: (count, side, side) grey levels.
        labels: (count,) classes.
    """

    images: UInt8[np.ndarray, "count side side"]
    labels: Int64[np.ndarray, " count"]


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Square grey images in ten classes.

    Attributes:
        name: name of the set.
        side: height and width in pixels.
        white: the largest grey level.
        splits: disjoint sets of images: "training", "validation", "test".
    """

    name: str
    side: int
    white: int
    splits: Mapping[str, LabelledImages]


DIGITS_SHA256 = "b2dab7b501728c22e9119ad76740b2e17c77a231e42d1e592380d90886f1a05e"

_MNIST = (  # name, shape, SHA-256 of the file and of its gzip form
    (
        "train-images-idx3-ubyte",
        (60_000, 28, 28),
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    ),
    (
        "train-labels-idx1-ubyte",
        (60_000,),
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    ),
    (
        "t10k-images-idx3-ubyte",
        (10_000, 28, 28),
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    ),
    (
        "t10k-labels-idx1-ubyte",
        (10_000,),
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
    ),
)
_MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
MNIST_FILES = tuple(IdxFile(name, shape, sha256) for name, shape, sha256, _ in _MNIST)
MNIST_DOWNLOADS = tuple(
    RemoteFile(f"{name}.gz", tuple(f"{mirror}{name}.gz" for mirror in _MIRRORS), sha256)
    for name, _, _, sha256 in _MNIST
)


@functools.lru_cache(maxsize=1)
def load_digits() -> ImageSet:
    """The 1,797 digits of 8 x 8 pixels that ship with this package, grey levels 0 to 16.

    Split once and for all, at random but with equal shares of each class: 1,297 for training, 200
    for validation, 300 for test. The 13 writers of the set are in all three splits, so this is
    easier than unknown writers would be.

    Raises:
        DataError: the file in the installed package is damaged.

    Source:
        Alpaydin & Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning
        Repository, 1998 (CC BY 4.0).
    """
    path = importlib.resources.files("throughtime.tasks").joinpath("data", "digits.npz")
    content = path.read_bytes()
    sha256 = hashlib.sha256(content).hexdigest()
    if sha256 != DIGITS_SHA256:
        raise DataError(
            f"{path} is corrupt",
            got=f"SHA-256 {sha256}",
            expected=DIGITS_SHA256,
            fix="Install throughtime again.",
        )
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        images, labels = arrays["images"], arrays["labels"].astype(np.int64)
    order = permutation(len(images), seed=0, purpose="split")
    images, labels = images[order], labels[order]
    by_class = np.argsort(labels, kind="stable")
    test = _spread(by_class, 300)
    validation = _spread(by_class[~np.isin(by_class, test)], 200)
    training = np.setdiff1d(by_class, np.concatenate((test, validation)))
    parts = {"training": training, "validation": np.sort(validation), "test": np.sort(test)}
    splits = {split: LabelledImages(images[part], labels[part]) for split, part in parts.items()}
    return ImageSet("digits", side=8, white=16, splits=splits)


def load_mnist(
    data_dir: str | Path | None = None,
    *,
    files: tuple[IdxFile, ...] = MNIST_FILES,
    downloads: tuple[RemoteFile, ...] = MNIST_DOWNLOADS,
    validation: int = 5_000,
) -> ImageSet:
    """MNIST: 55,000 images for training, the next 5,000 for validation, 10,000 for test.

    The four idx files, gzip-compressed or not, are looked for in `data_dir`; if that is None, in
    the folder that the environment variable THROUGHTIME_DATA names; if that is unset, they are
    downloaded once into this user's cache. A folder may hold them itself or in a subfolder `mnist`.
    They are read once in a process. Every file is checked against the sum of its uncompressed
    bytes.

    Arguments:
        data_dir: the folder.
        files: training images, training labels, test images and test labels, as they should be.
        downloads: sources of the files.
        validation: number of the last training images that are held out.

    Raises:
        DataError: a file is missing, cut short, corrupt, or not the file that it should be, or
            cannot be downloaded; the message names it.

    Source:
        LeCun, Bottou, Bengio & Haffner, "Gradient-based learning applied to document recognition",
        Proceedings of the IEEE 86(11), 1998.
    """
    return _read_mnist(data_folder(data_dir, "mnist", downloads), files, validation)


@functools.lru_cache(maxsize=1)
def _read_mnist(folder: Path, files: tuple[IdxFile, ...], validation: int) -> ImageSet:
    images, labels, test_images, test_labels = (
        read_idx(path, file) for path, file in zip(_paths(folder, files), files, strict=True)
    )
    cut = len(images) - validation
    return ImageSet(
        "mnist",
        side=images.shape[1],
        white=255,
        splits={
            "training": LabelledImages(images[:cut], labels[:cut].astype(np.int64)),
            "validation": LabelledImages(images[cut:], labels[cut:].astype(np.int64)),
            "test": LabelledImages(test_images, test_labels.astype(np.int64)),
        },
    )


def _spread(ordered: Int64[np.ndarray, " count"], size: int) -> Int64[np.ndarray, " size"]:
    """Every (count / size)-th of an array."""
    return ordered[np.arange(size) * len(ordered) // size]


def _paths(folder: Path, files: tuple[IdxFile, ...]) -> list[Path]:
    """Return the places of the files, all in one folder."""
    name = files[0].name
    first = found(folder, "mnist", name)
    if first is None:
        raise DataError(
            f"no MNIST in {folder}",
            got="no such folder" if not folder.is_dir() else f"no {name}",
            expected=f"{name} or {name}.gz, there or in its subfolder mnist",
            fix=(
                "Point --data-dir or THROUGHTIME_DATA at the folder of the four files, "
                "or set neither to download them."
            ),
        )
    paths = {file.name: found(first.parent, ".", file.name) for file in files}
    for name, path in paths.items():
        if path is None:
            raise DataError(
                f"{first.parent / name} is missing",
                expected=f"{name} or {name}.gz beside the other files of MNIST",
                fix="Get all four files.",
            )
    return [path for path in paths.values() if path is not None]
