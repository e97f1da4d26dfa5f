"""Thirteen sets of binary vectors on which densities are compared."""

import hashlib
import io
import os
import zipfile
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import UInt8

from throughtime.core.errors import DataError
from throughtime.tasks.download import found, unpacked
from throughtime.tasks.pixel_densities import PixelDensity
from throughtime.tasks.task import Split

_SETS = {  # inputs, and SHA-256 of the packed bits of training, validation and test together
    "nltcs": (16, "d1a43f92acb57cf19167c25d4d7013eb52935982bb3e226d56fd330e00e10a06"),
    "plants": (69, "85b7aec15770d4ddc65446312c02922e0279ab9b3b8372bb458c32c8a9b5ff67"),
    "jester": (100, "3aa1cfc9cb5d4534225b686c02916b05bd5ea254623b3aa0f9fe5338c89f1df1"),
    "baudio": (100, "bb15038bad83589d40b1485e7cb6cfadbcaa9b3cc4c52c88a65cbe9fa19a9e0b"),
    "bnetflix": (100, "90ffabb1a5ca123b63ada2c5ed7ee1cce72a424efd4a542322ea7f7249ceec2e"),
    "accidents": (111, "78735ba0939659fd28eac01fc81d8f13e220c5ddeda0713914a342d083b24e6b"),
    "pumsb_star": (163, "c1ab4e99f1f51fc1310eff6f74395e4bde45d6176ee9678179117a8fdd71bb94"),
    "dna": (180, "24995bcbb09d67e1f27189ae93c1f7484d7ff3208365dab3ce5075d4c412d6ad"),
    "bbc": (1058, "2efec5faa0569e5cda5d05155aee7dfcb5009e45e379278c2ab9e73f62ff075d"),
    "mushrooms": (112, "fc42625b81431b71884fec4f43a326272dba2e476cd15bd8e990bca5cf21fcb3"),
    "nips": (500, "1bdf4cca3a8b2b47feacd09adf9269fbd8967e5116abe72e56572bbe2a0e8e18"),
    "moviereview": (1001, "700b8c27da7b4c200590ed24f9caabc4989dffeaac2c5eb1d66bd29822aa9008"),
    "voting": (1359, "0dff4e504c8257be6049fb33b35e1528f66363e81154ec932c2ac5cbe1eb66a5"),
}
_SPLITS: dict[Split, str] = {"training": "train", "validation": "valid", "test": "test"}
_PACKED = "binary_density_packed.npz"
_MOST_BYTES = 1 << 26  # of a text, unpacked

SetName = Literal[
    "nltcs",
    "plants",
    "jester",
    "baudio",
    "bnetflix",
    "accidents",
    "pumsb_star",
    "dna",
    "bbc",
    "mushrooms",
    "nips",
    "moviereview",
    "voting",
]
"""Names of the sets."""


def binary_density(*, name: SetName = "nltcs", data_dir: str | None = None) -> PixelDensity:
    """Binary vectors of a set on which densities are compared: nltcs, plants, dna ...

    Files are not downloaded. A folder holds NAME.train.data, NAME.valid.data and NAME.test.data, or
    their gzip forms: a vector a line, commas between zeros and ones. Or it holds
    binary_density_packed.npz: arrays NAME_train, NAME_valid and NAME_test, of `np.packbits`. They
    may lie in a subfolder NAME or density. The vectors are checked by their sum.

    Arguments:
        name: name of the set.
        data_dir: folder of the files; that of THROUGHTIME_DATA if None.

    Raises:
        DataError: no folder, a file is missing, or not the one that it should be.

    Source:
        the collection Density-Estimation-Datasets of the StarAI laboratory, UCLA, after Lowd and
        Davis 2010, Learning Markov network structure with decision trees, and others.
    """
    width, sha256 = _SETS[name]
    chosen = data_dir or os.environ.get("THROUGHTIME_DATA")
    if not chosen:
        raise DataError(
            f"task 'binary-density:name={name}'",
            got="no folder of data",
            expected=f"{name}.train.data, {name}.valid.data and {name}.test.data in it",
            fix="Get them from github.com/UCLA-StarAI/Density-Estimation-Datasets, and point "
            "--data-dir or THROUGHTIME_DATA at their folder.",
        )
    folder = Path(chosen).expanduser()
    splits, sums = {}, hashlib.sha256()
    for split, part in _SPLITS.items():
        packed = _packed_bits(folder, name, part, width)
        sums.update(packed.tobytes())
        bits = np.unpackbits(packed, axis=1)[:, :width]
        splits[split] = bits.reshape(-1, 1, 1, width)
    if sums.hexdigest() != sha256:
        raise DataError(
            f"{name} in {folder}",
            got=f"vectors whose packed bits have SHA-256 {sums.hexdigest()}",
            expected=sha256,
            fix="Get its three files again.",
        )
    return PixelDensity(name, splits)


def _packed_bits(folder: Path, name: str, part: str, width: int) -> UInt8[np.ndarray, "rows bytes"]:
    """Return the bits of a split, eight in a byte, a row a vector."""
    file = f"{name}.{part}.data"
    path = found(folder, name, file) or found(folder, "density", file)
    if path is not None:
        content = unpacked(path, _MOST_BYTES)
        digits = np.frombuffer(content, np.uint8)
        digits = digits[(digits == ord("0")) | (digits == ord("1"))]
        if not len(digits) or len(digits) % width:
            raise DataError(
                str(path), got=f"{len(digits)} zeros and ones", expected=f"a multiple of {width}"
            )
        return np.packbits(digits.reshape(-1, width) - ord("0"), axis=1)
    path = found(folder, "density", _PACKED)
    if path is None:
        raise DataError(
            f"no {name} in {folder}",
            got="no such folder" if not folder.is_dir() else f"no {file}",
            expected=f"{file} or {file}.gz, there or in a subfolder {name}, or {_PACKED}",
            fix="Get it from github.com/UCLA-StarAI/Density-Estimation-Datasets.",
        )
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as arrays:
            return arrays[f"{name}_{part}"].astype(np.uint8).reshape(-1, (width + 7) // 8)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(
            str(path), got=str(error), expected=f"an array {name}_{part} of packed bits"
        ) from error
