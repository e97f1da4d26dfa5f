"""Files that are whole or absent, whatever kills the process that writes them."""

import contextlib
import errno
import json
import os
import stat
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from throughtime.core.errors import RunError, RunVersionError, RunWriteError

SCHEMA_VERSION = 1
"""Version of every JSON file of a run. It changes whenever the meaning of a file does."""

_FIXES = {
    errno.ENOSPC: "Free some space: the same call then goes on.",
    errno.EDQUOT: "Free some of your quota: the same call then goes on.",
    errno.EFBIG: "Raise the limit on file sizes: the same call then goes on.",
    errno.EACCES: "Choose a folder that you may write to.",
    errno.EPERM: "Choose a folder that you may write to.",
    errno.EROFS: "Choose a folder that you may write to.",
    errno.ENOTDIR: "Choose a path whose parents are folders.",
    errno.EISDIR: "Choose the name of a file.",
    errno.ENAMETOOLONG: "Choose a shorter name.",
    errno.ELOOP: "Choose a path whose links end somewhere.",
    errno.EEXIST: "Choose a path that is a folder, or does not exist yet.",
}


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn the system's errors while `path` is written into RunWriteError."""
    if "\0" in str(path):
        raise RunWriteError("cannot write", got=repr(str(path)), expected="a path without \\0")
    try:
        yield
    except OSError as error:
        raise RunWriteError(
            f"cannot write {path}",
            got=error.strerror or str(error),
            fix=_FIXES.get(error.errno or 0, "Check the disk, or choose another folder."),
        ) from error


def write_flushed(path: Path, content: bytes) -> None:
    """Write a new file and wait until it is on the disk; for a folder that is not in use yet.

    Raises:
        RunWriteError: the disk is full, the folder cannot be written, or there is such a file.
    """
    with writing(path):
        _write_flushed(path, content)


def write_whole(path: Path, content: bytes) -> None:
    """Replace a file by `content` in one step that outlasts a crash of the process or the machine.

    The content is written beside it, flushed to the disk, and renamed. Links are followed: their
    target is replaced. What is no regular file (a device, a pipe) is written to.

    Raises:
        RunWriteError: the disk is full, or the folder cannot be written; a file is then as before.
    """
    with writing(path):
        if _written_through(path, content):
            return
        target = Path(os.path.realpath(path))
        temporary = target.with_name(f"{target.name}.tmp")
        try:
            _write_flushed(temporary, content)
            os.replace(temporary, target)
        except OSError:
            with contextlib.suppress(OSError):  # the first error is the one to report
                temporary.unlink(missing_ok=True)
            raise
        sync_folder(target.parent)


def _written_through(path: Path, content: bytes) -> bool:
    """Write to a device, a pipe, or this process's own output; False for any other path."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return False
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    for number in (1, 2):
        if _is_open(number, found):
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
            with open(os.dup(number), "wb") as file:  # a file goes on where the output is
                file.write(content)
            return True
    if stat.S_ISREG(found.st_mode):
        return False
    with path.open("wb") as file:
        file.write(content)
    return True


def _is_open(descriptor: int, file: os.stat_result) -> bool:
    try:
        return os.path.samestat(file, os.fstat(descriptor))
    except OSError:  # it is closed
        return False


def _write_flushed(path: Path, content: bytes) -> None:
    if os.path.lexists(path):  # of a killed process, or a link that others put here
        path.unlink()
    with path.open("xb") as file:  # follows no link
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Flush a folder's list of names to the disk, where the system can: not on Windows."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(path: Path, document: Mapping[str, object]) -> None:
    """Write a JSON file of a run, whole, with the schema version.

    Arguments:
        path: A file in a folder that exists.
        document: Values that JSON can hold; finite numbers only.

    Raises:
        RunWriteError: as `write_whole`.
    """
    write_whole(path, json_bytes(document))


def json_bytes(document: Mapping[str, object]) -> bytes:
    """Return the content of a JSON file of a run."""
    text = json.dumps({"schema_version": SCHEMA_VERSION, **document}, indent=1, allow_nan=False)
    return f"{text}\n".encode()


def read_whole(path: Path, fix: str = "") -> bytes:
    """Return a file's content. Raises RunError if there is none, or it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise RunError(
            f"cannot read {path}",
            got=error.strerror or str(error),
            fix=fix
            or "If it cannot be brought back, rename the run's folder and start the run again.",
        ) from error


def _no_number(word: str) -> float:
    raise ValueError(f"{word} is no number of JSON")


def read_json(path: Path, fix: str = "") -> dict[str, Any]:
    """Return the document that `write_json` wrote, without the schema version.

    Arguments:
        path: The file.
        fix: The remedy in the error message; "" for that of a run's file.

    Raises:
        RunError: there is no such file, or it is cut short or damaged.
        RunVersionError: it has another schema version.
    """
    content = read_whole(path, fix)
    try:
        document = json.loads(content, parse_constant=_no_number)
        version = document.pop("schema_version")
    except (ValueError, AttributeError, KeyError, TypeError, RecursionError) as error:
        raise RunError(
            f"{path} is not whole",
            got=f"{len(content)} bytes ({type(error).__name__}: {error})",
            expected="a JSON object with a schema_version",
            fix=fix or "Bring the file back, or rename the run's folder and start the run again.",
        ) from error
    if version != SCHEMA_VERSION:
        raise RunVersionError(
            f"{path} was written in another version of the format",
            got=f"schema_version {version}",
            expected=str(SCHEMA_VERSION),
            fix="Use the version of throughtime that wrote it, or choose another folder.",
        )
    return document
