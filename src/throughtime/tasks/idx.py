"""Reading idx files (the format of MNIST), compressed or not, and only if they are whole."""

import gzip
import hashlib
import math
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from throughtime.core.errors import DataError


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

    Arguments:
        path: the file, gzip-compressed or not, whatever its name ends in.
        expected: file that it should be.

    Raises:
        DataError: the file cannot be read, is cut short, corrupt, or another file;
            the message names the file.
    """
    header = expected.header
    size = len(header) + math.prod(expected.shape)
    content = _content(path, size)
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


def _content(path: Path, size: int) -> bytes:
    """The uncompressed file, but no more than `size` + 1 bytes of it."""
    try:
        with path.open("rb") as file:
            if file.read(2) != b"\x1f\x8b":
                file.seek(0)
                return file.read(size + 1)
            file.seek(0)
            with gzip.open(file) as unpacked:
                return unpacked.read(size + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(
            f"{path} is cut short or corrupt",
            got=f"{type(error).__name__}: {error}",
            expected="a whole gzip file",
            fix="Delete it and get it again.",
        ) from error
    except OSError as error:
        raise DataError(f"{path} cannot be read", got=str(error)) from error
