"""Sets of binary images and vectors: binarised MNIST, digits."""

import functools
import hashlib
import io
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from throughtime.core.errors import DataError
from throughtime.tasks.download import RemoteFile, data_folder, found, unpacked
from throughtime.tasks.image_sets import load_digits, load_mnist
from throughtime.tasks.pixel_densities import Levels, PixelDensity
from throughtime.tasks.task import Split

_LAROCHELLE = "http://www.cs.toronto.edu/~larocheh/public/datasets/binarized_mnist"
_TERMS = "Binarised MNIST, of H. Larochelle, after MNIST of LeCun et al.: its terms are not stated."


def _amat(name: str, sha256: str) -> RemoteFile:
    return RemoteFile(name, (f"{_LAROCHELLE}/{name}",), sha256, _TERMS)


BINARIZED_MNIST: dict[Split, RemoteFile] = {
    "training": _amat(
        "binarized_mnist_train.amat",
        "ad693b29f94c14277b095f5238ddefbbdaaae0939789dd2f4f0205278cee3e4d",
    ),
    "validation": _amat(
        "binarized_mnist_valid.amat",
        "1de3d397c40fe8eeb33dafd4099a1f665ec01e96d9be234aaeeac8a34930e2e2",
    ),
    "test": _amat(
        "binarized_mnist_test.amat",
        "e6687bfea3f820c174f33b7865140b2a2dd2930ef786f35d45795fc193b5ab2c",
    ),
}
"""50,000 images for training, 10,000 for validation, 10,000 for test: lines of 784 digits."""

_PACKED = "binarized_mnist_packed.npz"
_PACKED_KEYS: dict[Split, str] = {"training": "train", "validation": "valid", "test": "test"}
_MOST_BYTES = 1 << 27  # of a text, unpacked


def load_binarized_mnist(
    data_dir: str | Path | None = None,
    *,
    files: Mapping[Split, RemoteFile] = BINARIZED_MNIST,
    side: int = 28,
) -> dict[Split, Levels]:
    """Return the fixed binarised MNIST: one draw of each pixel, the same for everybody.

    The three text files, gzip-compressed or not, are looked for in `data_dir`; if that is None, in
    the folder that THROUGHTIME_DATA names; if that is unset, they are downloaded once into this
    user's cache. A folder may hold them itself or in a subfolder `binarized_mnist`, or, in their
    place, binarized_mnist_packed.npz: arrays train, valid and test, of `np.packbits`. Either is
    checked by the sum of the text.

    Arguments:
        data_dir: folder of the files.
        files: text file of each split, as it should be.
        side: height and width of an image.

    Raises:
        DataError: a file is missing, or not the one that it should be, or cannot be downloaded.

    Source:
        Larochelle and Murray 2011; Salakhutdinov and Murray 2008.
    """
    folder = data_folder(data_dir, "binarized_mnist", [*files.values()])
    return dict(_read(folder, tuple(files.items()), side))


@functools.lru_cache(maxsize=1)
def _read(
    folder: Path, files: tuple[tuple[Split, RemoteFile], ...], side: int
) -> tuple[tuple[Split, Levels], ...]:
    images: list[tuple[Split, Levels]] = []
    for split, file in files:
        path = found(folder, "binarized_mnist", file.name)
        packed = found(folder, "binarized_mnist", _PACKED)
        if path is not None:
            bits = _of_text(path, file, side * side)
        elif packed is not None:
            bits = _of_packed(packed, _PACKED_KEYS[split], file, side * side)
        else:
            raise DataError(
                f"no binarised MNIST in {folder}",
                got="no such folder" if not folder.is_dir() else f"no {file.name}",
                expected=f"{file.name} or {file.name}.gz, there or in its subfolder "
                f"binarized_mnist, or {_PACKED}",
                fix="Point --data-dir or THROUGHTIME_DATA at its folder, or set neither to get it.",
            )
        images.append((split, bits.reshape(-1, 1, side, side)))
    return tuple(images)


def _of_text(path: Path, file: RemoteFile, width: int) -> UInt8[np.ndarray, "rows width"]:
    content = unpacked(path, _MOST_BYTES)
    sha256 = hashlib.sha256(content).hexdigest()
    if sha256 != file.sha256:
        raise DataError(
            f"{path} is corrupt or not {file.name}",
            got=f"SHA-256 {sha256} (uncompressed)",
            expected=file.sha256,
            fix="Delete it and get it again.",
        )
    digits = np.frombuffer(content, np.uint8).reshape(-1, 2 * width)[:, ::2]
    return np.ascontiguousarray(digits) - np.uint8(ord("0"))


def _of_packed(
    path: Path, key: str, file: RemoteFile, width: int
) -> UInt8[np.ndarray, "rows width"]:
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as arrays:
            bits = np.unpackbits(arrays[key], axis=1)[:, :width]
    except (OSError, ValueError, KeyError, EOFError, TypeError, zipfile.BadZipFile) as error:
        raise DataError(
            f"{path} cannot be read",
            got=f"{type(error).__name__}: {error}",
            expected=f"an array {key!r} of packed bits",
        ) from error
    lines = np.full((len(bits), 2 * width), ord(" "), np.uint8)
    lines[:, : 2 * bits.shape[1] : 2] = bits + ord("0")
    lines[:, -1] = ord("\n")
    sha256 = hashlib.sha256(lines.tobytes()).hexdigest()
    if sha256 != file.sha256:
        raise DataError(
            f"{path} is corrupt",
            got=f"the text of {key!r} with SHA-256 {sha256}",
            expected=f"{file.sha256}, that of {file.name}",
        )
    return bits


def binarized_mnist(*, data_dir: str | None = None) -> PixelDensity:
    """Binarised MNIST, 28 x 28: the fixed set, one draw of each pixel (Larochelle & Murray 2011).

    Arguments:
        data_dir: folder of the files; None: THROUGHTIME_DATA, else they are downloaded.

    Raises:
        DataError: see `load_binarized_mnist`.
    """
    return PixelDensity("binarized-mnist", load_binarized_mnist(data_dir))


def dynamic_mnist(*, data_dir: str | None = None) -> PixelDensity:
    """MNIST, 28 x 28, binarised anew in each training batch; held-out images are drawn once.

    Likelihoods are not comparable with those of the fixed set.

    Arguments:
        data_dir: folder of the four idx files; None: THROUGHTIME_DATA, else they are downloaded.

    Raises:
        DataError: see `load_mnist`.
    """
    images = load_mnist(data_dir)
    splits: dict[Split, Levels] = {
        split: images.splits[split].images[:, None] for split in _PACKED_KEYS
    }
    return PixelDensity("dynamic-mnist", splits, white=images.white)


def thresholded_digits() -> PixelDensity:
    """Handwritten digits, 8 x 8, of which pixels from half of white on are 1; in the package."""
    images = load_digits()
    splits: dict[Split, Levels] = {
        split: (images.splits[split].images[:, None] * 2 >= images.white).astype(np.uint8)
        for split in _PACKED_KEYS
    }
    return PixelDensity("thresholded-digits", splits)
