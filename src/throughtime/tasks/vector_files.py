"""Vectors and images of whole levels in files of the user's, .npz, .npy or CSV."""

import hashlib
import io
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from throughtime.core.errors import ConfigurationError, DataError
from throughtime.tasks.pixel_densities import Levels, PixelDensity
from throughtime.tasks.seeding import permutation
from throughtime.tasks.task import Split

_MOST_BYTES = 1 << 30  # of arrays, unpacked: a file may unpack to a thousand times its size
_LEAST_ROWS = 20  # of one array that is split
_NAMES: dict[Split, tuple[str, ...]] = {
    "training": ("training", "train"),
    "validation": ("validation", "valid", "val"),
    "test": ("test",),
}


def vectors(
    *,
    file: str | None = None,
    levels: int = 2,
    sha256: str | None = None,
    data_dir: str | None = None,
) -> PixelDensity:
    """Vectors or images of whole levels in a file of one's own, .npz, .npy or CSV.

    Rows are vectors. An array may also be (rows, height, width) or (rows, channels, height, width).
    A .npz file with arrays training (or train), validation (or valid, val) and test is split so.
    One array is split at random, the same in every run: 80 % for training, 10 % for validation, the
    rest for test. A CSV file has a row a line, commas between whole numbers, and may begin with a
    line of names.

    Arguments:
        file: path of the file; its name without suffix is the name of the data set.
        levels: number of levels, 0 ... levels - 1, from 2 to 256.
        sha256: SHA-256 of the file, or its first 16 hexadecimal digits or more; a file of another
            content is refused. A run adds it to its configuration.
        data_dir: folder of the file.

    Raises:
        ConfigurationError: no file, levels out of range, or a checksum that is none.
        DataError: the file is missing, cannot be read, has another checksum, rows of different
            sizes, too few rows, or a value that is no level.
    """
    if not file:
        raise ConfigurationError(
            "file of task 'vectors'", got="none", expected="a path: vectors:file=my.npz"
        )
    if not 2 <= levels <= 256:
        raise ConfigurationError("levels of task 'vectors'", got=levels, expected="2 to 256")
    if sha256 is not None and not re.fullmatch(r"[0-9a-f]{16,64}", sha256):
        raise ConfigurationError(
            "sha256 of task 'vectors'",
            got=repr(sha256),
            expected="16 to 64 hexadecimal digits in small letters",
        )
    path = Path(data_dir or "", file).expanduser()
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(str(path), got=error.strerror or str(error), expected="a file") from error
    checksum = hashlib.sha256(content).hexdigest()
    if sha256 is not None and not checksum.startswith(sha256):
        raise DataError(
            str(path),
            got=f"SHA-256 {checksum[: len(sha256)]}",
            expected=sha256,
            fix="Bring the file back as it was, or leave sha256 out in a new folder.",
        )
    splits: dict[Split, Levels] = {
        split: _levels(array, levels, f"{path}, {split}")
        for split, array in _splits(path, content).items()
    }
    shapes = {split: images.shape[1:] for split, images in splits.items()}
    if len(set(shapes.values())) > 1:
        raise DataError(str(path), got=f"sizes {shapes}", expected="one size in all splits")
    task = PixelDensity(path.stem, splits, levels=levels)
    task.sha256 = checksum[:16]
    return task


def _splits(path: Path, content: bytes) -> dict[Split, np.ndarray]:
    """Return the array of each split."""
    if path.suffix == ".npz":
        arrays = _arrays(path, content)
        found: dict[Split, np.ndarray] = {
            split: arrays[name]
            for split, names in _NAMES.items()
            for name in names
            if name in arrays
        }
        if len(found) == len(_NAMES):
            return found
        if len(arrays) != 1:
            raise DataError(
                str(path),
                got=f"arrays {', '.join(arrays) or '(none)'}",
                expected="one array, or training, validation and test",
            )
        (whole,) = arrays.values()
    elif path.suffix == ".npy":
        whole = _loaded(path, content)
    else:
        whole = _csv(path, content)
    if whole.ndim < 1 or len(whole) < _LEAST_ROWS:
        raise DataError(
            str(path),
            got=f"shape {whole.shape}",
            expected=f"{_LEAST_ROWS} rows or more, of which a tenth each is held out",
        )
    whole = whole[permutation(len(whole), 0, "split")]
    first, second = len(whole) * 8 // 10, len(whole) * 9 // 10
    return {"training": whole[:first], "validation": whole[first:second], "test": whole[second:]}


def _arrays(path: Path, content: bytes) -> dict[str, np.ndarray]:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            size = sum(member.file_size for member in archive.infolist())
    except zipfile.BadZipFile as error:
        raise DataError(str(path), got=str(error), expected="a whole .npz file") from error
    if size > _MOST_BYTES:
        raise DataError(
            str(path), got=f"{size:,} bytes, unpacked", expected=f"at most {_MOST_BYTES:,}"
        )
    arrays = _loaded(path, content)
    try:
        return {name: arrays[name] for name in arrays.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(str(path), got=str(error), expected="arrays of numbers") from error


def _loaded(path: Path, content: bytes) -> Any:
    try:
        return np.load(io.BytesIO(content), allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise DataError(str(path), got=str(error), expected="an array of numbers") from error


def _csv(path: Path, content: bytes) -> np.ndarray:
    try:
        lines = [line for line in content.decode("utf-8-sig").splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise DataError(
            str(path), got=str(error), expected="a CSV file, or one that ends in .npz or .npy"
        ) from error
    rows = [line.split(",") for line in lines]
    if rows and not any(re.fullmatch(r"\s*-?\d+(\.\d*)?\s*", cell) for cell in rows[0]):
        rows, lines = rows[1:], lines[1:]  # names of the columns
    for number, row in enumerate(rows):
        if len(row) != len(rows[0]):
            raise DataError(
                str(path),
                got=f"{len(row)} numbers in row {number + 1}: {lines[number][:40]!r}",
                expected=f"{len(rows[0])}, as in the first row",
            )
    try:
        return np.array([[float(cell) for cell in row] for row in rows])
    except ValueError as error:
        raise DataError(
            str(path), got=str(error), expected="rows of whole numbers with commas between them"
        ) from error


def _levels(array: np.ndarray, levels: int, subject: str) -> Levels:
    """Return an array as images, or raise DataError for values that are no levels."""
    if array.ndim not in (2, 3, 4) or array.size == 0 or array.dtype.kind not in "biuf":
        raise DataError(
            subject,
            got=f"an array of {array.dtype} of shape {array.shape}",
            expected="numbers: (rows, values), (rows, height, width) or "
            "(rows, channels, height, width)",
        )
    if len(array) < 2:
        raise DataError(subject, got=f"{len(array)} row", expected="2 or more")
    wrong = ~((array >= 0) & (array < levels) & (array == np.floor(array)))
    if wrong.any():
        raise DataError(
            subject,
            got=f"the value {array[wrong][0]}",
            expected=f"whole numbers from 0 to {levels - 1}",
            fix="Binarise the values, or give the number of levels: levels=256.",
        )
    shape = {2: (1, 1, -1), 3: (1, *array.shape[1:]), 4: array.shape[1:]}[array.ndim]
    return array.astype(np.uint8).reshape(len(array), *shape)
