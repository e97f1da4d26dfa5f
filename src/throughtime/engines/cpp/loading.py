"""Loading a shared library from the open file that was checked, whole, with its functions."""

import ctypes
import itertools
import os
import struct
from collections.abc import Sequence
from typing import BinaryIO

_DESCRIPTORS = "/proc/self/fd"  # on Linux

_numbers = itertools.count(1)


class LibraryError(OSError):
    """A file is no library that can be loaded here."""


def load(file: BinaryIO, functions: Sequence[str]) -> ctypes.CDLL:
    """Load a library.

    Arguments:
        file: open for reading; the library is mapped from it, whatever its name stands for by now.
        functions: names that the library must have.

    Raises:
        LibraryError: it is cut short, of another format, or lacks a function.
    """
    _check_whole(file)
    try:
        library = ctypes.CDLL(_path(file))
    except OSError as error:
        raise LibraryError(str(error)) from error
    missing = [name for name in functions if not hasattr(library, name)]
    if missing:
        unload(library)
        raise LibraryError(f"it has no function {', '.join(missing)}")
    return library


def unload(library: ctypes.CDLL) -> None:
    """Let go of a library's file: on a network drive it could not be removed before."""
    import _ctypes

    _ctypes.dlclose(library._handle)


def _path(file: BinaryIO) -> str:
    """A path that leads to an open file. The system's loader takes equal paths for one library, so
    each call spells it in another way."""
    spelling = "".join("/." if bit == "1" else "/" for bit in f"{next(_numbers):b}")
    path = f"{_DESCRIPTORS}{spelling}/{file.fileno()}"
    try:
        if os.path.samestat(os.stat(path), os.fstat(file.fileno())):
            return path
    except OSError:  # no Linux, or no /proc
        pass
    return file.name


def _check_whole(file: BinaryIO) -> None:
    """Refuse an ELF file that is shorter than it says: reading beyond its end kills the process."""
    size, head = os.fstat(file.fileno()).st_size, file.read(64)
    file.seek(0)
    if head[:5] != b"\x7fELF\x02":  # another format, which the system's loader judges
        return
    order = "<" if head[5:6] == b"\x01" else ">"
    try:
        start, sections, each, count, section_size, section_count = struct.unpack(
            f"{order}32xQQ6xHHHH2x", head
        )
        file.seek(start)
        segments = file.read(each * count)
        file.seek(0)
        ends = [sections + section_size * section_count, start + each * count]
        for k in range(count):
            kind, offset, length = struct.unpack_from(f"{order}I4xQ16xQ", segments, k * each)
            ends.append(offset + length if kind == 1 else 0)  # 1: mapped to memory
    except (struct.error, OverflowError, OSError) as error:
        raise LibraryError("it is cut short") from error
    if max(ends) > size:
        raise LibraryError(f"it is cut short: {size} bytes of {max(ends)}")
