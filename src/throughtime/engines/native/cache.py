"""The folder in which compiled libraries are kept: private to its user, whole files or none."""

import contextlib
import datetime
import hashlib
import json
import os
import re
import shlex
import stat
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from throughtime.core.errors import ThroughtimeError

VARIABLE = "THROUGHTIME_CACHE"
"""Names the folder in which `native` holds the libraries, in place of the user's cache folder."""

SCHEMA_VERSION = 1
"""Of the JSON beside each library."""

_BUILDING = "building-"
_ABANDONED = 600.0  # seconds after which whatever is being built is not being built any more


class CacheFolderError(ThroughtimeError, RuntimeError):
    """Others could change the libraries that this process loads."""


@final
@dataclass(frozen=True)
class Entry:
    """A library in the cache: KEY.so, and KEY.json, which tells its checksum.

    Attributes:
        folder: where both are.
        key: of all that the library depends on.
    """

    folder: Path
    key: str

    @property
    def library(self) -> Path:
        """The shared library."""
        return self.folder / f"{self.key}.so"

    @property
    def record(self) -> Path:
        """What is known of it."""
        return self.folder / f"{self.key}.json"

    def valid(self) -> bool:
        """Whether both are our own files, and the library the one that was put here."""
        try:
            record = json.loads(_own_bytes(self.record))
            digest = hashlib.sha256(_own_bytes(self.library)).hexdigest()
        except (OSError, ValueError):
            return False
        expected = {"schema_version": SCHEMA_VERSION, "key": self.key, "sha256": digest}
        return isinstance(record, dict) and expected.items() <= record.items()

    def publish(self, built: Path, facts: Mapping[str, Any]) -> None:
        """Put a library here, in one step for whoever looks. Raises OSError if that cannot be.

        Arguments:
            built: the library, in a folder of the same file system that is thrown away later.
            facts: what else its record shall say.
        """
        record = {
            "schema_version": SCHEMA_VERSION,
            "key": self.key,
            "sha256": hashlib.sha256(built.read_bytes()).hexdigest(),
            "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            **facts,
        }
        text = built.with_suffix(".json")
        text.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        # Between the two, a reader finds them not to fit and builds its own. Builds of one key are
        # equal to the bit: when several processes publish, it does not matter whose files stay.
        text.replace(self.record)
        built.replace(self.library)

    def remove(self) -> None:
        """Take it out of the cache, if it is there. Raises OSError if that cannot be."""
        self.record.unlink(missing_ok=True)
        self.library.unlink(missing_ok=True)

    def size(self) -> int:
        """Bytes that it takes up."""
        return sum(p.lstat().st_size for p in (self.library, self.record) if p.exists())


def cache_folder() -> Path:
    """Where libraries are kept: `native` in the folder that THROUGHTIME_CACHE names, else in the
    user's cache folder."""
    import platformdirs

    chosen = os.environ.get(VARIABLE)
    if chosen:
        return Path(os.path.abspath(os.path.expanduser(chosen))) / "native"
    return platformdirs.user_cache_path("throughtime", appauthor=False) / "native"


def open_cache() -> Path | str:
    """The folder in which libraries are kept, made if need be; or why there can be none.

    Raises:
        CacheFolderError: others could change what is in it; it says what to do.
    """
    folder = cache_folder()
    if not folder.is_absolute():  # a user without a home
        return f"this user has no cache folder; {VARIABLE} can name one"
    try:
        folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        return f"{error.filename}: {error.strerror}"
    _check_private(folder)
    return folder


@contextlib.contextmanager
def building_folder() -> Iterator[Path]:
    """A new private folder in the cache, where libraries can be loaded from; removed at the end.

    Where the cache cannot be written it lies with the temporary files.

    Raises:
        CacheFolderError: others could change what is in the cache.
    """
    cache = open_cache()
    try:
        if isinstance(cache, str):
            raise OSError(cache)
        parent = tempfile.TemporaryDirectory(
            prefix=_BUILDING, dir=cache, ignore_cleanup_errors=True
        )
    except OSError:  # a file system that is read-only or full
        parent = tempfile.TemporaryDirectory(prefix="throughtime-", ignore_cleanup_errors=True)
    with parent as name:
        yield Path(name)


def cache_entries() -> list[Entry]:
    """The libraries in the cache, whole or not, in the order of their keys."""
    folder = cache_folder()
    keys = {_key_of(path) for path in (folder.iterdir() if folder.is_dir() else ())} - {None}
    return [Entry(folder, str(key)) for key in sorted(map(str, keys))]


def clear_cache() -> int:
    """Remove all libraries from the cache, and what broken-off builds have left; how many.

    Raises:
        CacheFolderError: a file cannot be removed.
    """
    entries = cache_entries()
    folder = cache_folder()
    try:
        for entry in entries:
            entry.remove()
        for path in folder.glob(f"{_BUILDING}*"):
            if time.time() - path.stat().st_mtime > _ABANDONED:
                for file in path.iterdir():
                    file.unlink()
                path.rmdir()
    except OSError as error:
        raise CacheFolderError(
            f"emptying {folder}", got=str(error), fix="Remove that folder by hand."
        ) from error
    return len(entries)


def _key_of(path: Path) -> str | None:
    found = re.fullmatch(r"([0-9a-f]{32})\.(so|json)", path.name)
    return found[1] if found else None


def _check_private(folder: Path) -> None:
    """What is loaded runs with all rights of this user: nobody else may put it there."""
    state, above = folder.stat(), folder.parent.stat()
    user, subject = os.geteuid(), f"compiled code cannot be kept in {folder}"
    elsewhere = f"set {VARIABLE} to a folder of your own."
    if state.st_uid != user:
        raise CacheFolderError(
            subject,
            got=f"a folder of the user with id {state.st_uid}",
            expected=f"one of your own (id {user})",
            fix=f"Remove it, or {elsewhere}",
        )
    open_path = None
    if state.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        open_path = folder
    elif above.st_mode & stat.S_IWOTH and not above.st_mode & stat.S_ISVTX:
        open_path = folder.parent  # where they could put another folder in place of ours
    if open_path is not None:
        raise CacheFolderError(
            subject,
            got=f"{open_path}, which other users may write",
            expected="one that only you may write",
            fix=f"Run: chmod go-w {shlex.quote(str(open_path))}, or {elsewhere}",
        )


def _own_bytes(path: Path) -> bytes:
    """The content of a file that is no link and belongs to this user. Raises OSError otherwise."""
    with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
        state = os.fstat(file.fileno())
        if not stat.S_ISREG(state.st_mode) or state.st_uid != os.geteuid():
            raise OSError(f"{path} is not a file of this user")
        return file.read()
