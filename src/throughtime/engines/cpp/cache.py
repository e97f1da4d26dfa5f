"""The folder in which compiled libraries are kept: private to its user, whole files or none."""

import contextlib
import datetime
import functools
import hashlib
import json
import os
import re
import shlex
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeVar, final

from throughtime.core.errors import ThroughtimeError
from throughtime.engines.cpp.building import LibraryError

Made = TypeVar("Made")

VARIABLE = "THROUGHTIME_CACHE"
"""Names the folder in which `native` holds the libraries, in place of the user's cache folder."""

SCHEMA_VERSION = 1
"""Of the JSON beside each library."""

_BUILDING = "building-"
_ROOM = 1 << 22  # bytes that a build needs, at least
_MOST_BYTES = 1 << 28  # of a file of the cache
_ABANDONED = 600.0  # seconds after which whatever is being built is not being built any more


class CacheFolderError(ThroughtimeError, RuntimeError):
    """Others could change the libraries that this process loads, or there is no place for them."""


@final
@dataclass(frozen=True)
class Entry:
    """A library in the cache: KEY.so, and KEY.json with its checksum.

    Attributes:
        folder: The folder of both files.
        key: The key of everything that the library depends on.
    """

    folder: Path
    key: str

    @property
    def library(self) -> Path:
        """The shared library."""
        return self.folder / f"{self.key}.so"

    @property
    def record(self) -> Path:
        """The file with the library's checksum and origin."""
        return self.folder / f"{self.key}.json"

    @contextlib.contextmanager
    def opened(self) -> Iterator[BinaryIO]:
        """The library's file, whose content is what was put here, and which is this user's own.

        Raises:
            OSError: There is none, it is not this user's alone, or it has been changed.
        """
        with _own_file(self.record) as file:
            record = _json(file.read())
        with _own_file(self.library) as file:
            digest = hashlib.sha256(file.read()).hexdigest()
            expected = {"schema_version": SCHEMA_VERSION, "key": self.key, "sha256": digest}
            if not expected.items() <= record.items():
                raise OSError(f"{self.library} is not the library that was put there")
            file.seek(0)
            yield file

    def valid(self) -> bool:
        """True if both files belong to this user alone, and the library has its checksum."""
        try:
            with self.opened():
                return True
        except OSError:
            return False

    def publish(self, built: Path, facts: Mapping[str, Any]) -> None:
        """Put a library into the cache, in one step for other processes. Raises OSError on failure.

        Arguments:
            built: The library, in a temporary folder of the same file system.
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
        for path, mode in ((text, 0o600), (built, 0o700)):
            path.chmod(mode)
        # Between the two, a reader finds them not to fit and builds its own. Builds of one key are
        # equal to the bit: when several processes publish, it does not matter whose files stay.
        text.replace(self.record)
        built.replace(self.library)

    def remove(self) -> None:
        """Remove the library from the cache, if it is there. Raises OSError on failure."""
        self.record.unlink(missing_ok=True)
        self.library.unlink(missing_ok=True)

    def size(self) -> int:
        """The size of both files in bytes."""
        return sum(p.lstat().st_size for p in (self.library, self.record) if p.exists())


def cache_folder() -> Path:
    """The folder of the libraries: `native` in the folder that THROUGHTIME_CACHE names, else in the
    user's cache folder."""
    import platformdirs

    chosen = os.environ.get(VARIABLE)
    if chosen:
        return Path(os.path.abspath(os.path.expanduser(chosen))) / "native"
    return platformdirs.user_cache_path("throughtime", appauthor=False) / "native"


def open_cache() -> Path | str:
    """The folder in which libraries are kept, made if need be, without links in its path; or the
    reason why there is none.

    Raises:
        CacheFolderError: Others could change its content; the message gives the fix.
    """
    folder = cache_folder()
    if not folder.is_absolute():  # a user without a home
        return f"this user has no cache folder; {VARIABLE} can name one"
    try:
        for place in reversed((folder, *folder.parents)):  # each private, whatever the umask
            if not place.is_dir():
                place.mkdir(mode=0o700, exist_ok=True)
        folder = Path(os.path.realpath(folder))
        check_private(folder, VARIABLE)
    except OSError as error:
        return f"{error.filename}: {error.strerror}"
    return folder


def make_in_a_folder(make: Callable[[Path], Made | str]) -> Made | str:
    """The result of a function that works in a new private folder of the cache.

    If that folder fails, the function runs again in one with the temporary files. The folder is
    removed at the end.

    Arguments:
        make: A function of the folder that returns its result, or an error in words. It raises
            OSError if the folder is at fault.

    Raises:
        CacheFolderError: Others could change the cache, or both disks are full.
        LibraryError: The library cannot be loaded from either folder.
    """
    wrong: list[str] = []
    for prefix, place in ((_BUILDING, open_cache), (f"throughtime-{_BUILDING}", _temporary)):
        parent = place()
        if isinstance(parent, str):
            wrong.append(parent)
            continue
        _remove_leavings(parent, prefix)
        try:
            with tempfile.TemporaryDirectory(
                prefix=prefix, dir=parent, ignore_cleanup_errors=True
            ) as folder:
                check_private(Path(folder), VARIABLE)
                made = make(Path(folder))
                if isinstance(made, str):
                    _check_room(Path(folder))
                return made
        except OSError as error:
            if isinstance(error, LibraryError) and place is _temporary:
                raise
            wrong.append(f"{parent}: {error.strerror or error}")
    raise CacheFolderError(
        "no folder to compile in",
        got="; ".join(wrong),
        expected="room for a few megabytes",
        fix=f"Free some space, or set {VARIABLE} to a folder on another disk.",
    )


def _temporary() -> Path | str:
    try:
        return Path(os.path.realpath(tempfile.gettempdir()))
    except OSError as error:
        return str(error.strerror)


def _check_room(folder: Path) -> None:
    """Raises OSError if the folder's disk is full, so that no compiler can work there."""
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(bytes(_ROOM))
        file.flush()
        os.fsync(file.fileno())


def _remove_leavings(folder: Path, prefix: str) -> None:
    """Remove the folders of builds that were killed."""
    for path in folder.glob(f"{prefix}*"):
        with contextlib.suppress(OSError):  # it is just gone, or another user's
            state = path.lstat()
            if state.st_uid == os.geteuid() and time.time() - state.st_mtime > _ABANDONED:
                shutil.rmtree(path)


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
        _remove_leavings(folder, _BUILDING)
    except OSError as error:
        raise CacheFolderError(
            f"emptying {folder}", got=str(error), fix="Remove that folder by hand."
        ) from error
    return len(entries)


def _key_of(path: Path) -> str | None:
    found = re.fullmatch(r"([0-9a-f]{32})\.(so|json)", path.name)
    return found[1] if found else None


@contextlib.contextmanager
def _own_file(path: Path) -> Iterator[BinaryIO]:
    """A file that is no link and that this user alone writes. Raises OSError otherwise."""
    with open(path, "rb", opener=_open_no_link) as file:
        state = os.fstat(file.fileno())
        if not stat.S_ISREG(state.st_mode) or state.st_uid != os.geteuid():
            raise OSError(f"{path} is not a file of this user")
        if state.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise OSError(f"{path} can be written by others")
        if state.st_size > _MOST_BYTES:
            raise OSError(f"{path} has {state.st_size} bytes")
        yield file


def _open_no_link(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)


def _json(content: bytes) -> dict[str, Any]:
    try:
        record = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise OSError(f"no JSON: {error}") from error
    if not isinstance(record, dict):
        raise OSError("no JSON object")
    return record


def check_private(folder: Path, variable: str) -> None:
    """Check that no other user can put code into a folder: it runs with all rights of this user.

    The folder must belong to the user. Each folder above it belongs to the user or to root, and is
    written by nobody else; or it is sticky, as /tmp is, where nobody moves what is another's.

    Arguments:
        folder: A folder without links in its path.

    Raises:
        CacheFolderError: Others could change it; the message gives the fix.
    """
    user, subject = os.geteuid(), f"compiled code cannot be kept in {folder}"
    elsewhere = f"set {variable} to a folder of your own."
    for place in (folder, *folder.parents):
        state = place.stat()
        if state.st_uid != user and (place == folder or state.st_uid not in _roots()):
            raise CacheFolderError(
                subject,
                got=f"{place}, a folder of the user with id {state.st_uid}",
                expected=f"one of your own (id {user})" + ("" if place == folder else " or root's"),
                fix=f"Remove it, or {elsewhere}" if place == folder else elsewhere.capitalize(),
            )
        if place == folder:
            open_to_others = state.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
        else:
            open_to_others = _others_write(place, state) and not state.st_mode & stat.S_ISVTX
        if open_to_others:
            raise CacheFolderError(
                subject,
                got=f"{place}, which other users may write",
                expected="one that only you may write",
                fix=f"Run: chmod go-w {shlex.quote(str(place))}, or {elsewhere}",
            )


def _others_write(place: Path, state: os.stat_result) -> bool:
    if state.st_mode & stat.S_IWOTH:
        return True
    return bool(state.st_mode & stat.S_IWGRP) and not _group_of_one(place, state)


def _group_of_one(place: Path, state: os.stat_result) -> bool:
    """True if a group has no member but this user, as many systems make one for each user."""
    import grp
    import pwd

    try:
        user, group = pwd.getpwuid(os.geteuid()), grp.getgrgid(state.st_gid)
    except KeyError:  # without a name
        return False
    if "system.posix_acl_access" in _attributes(place):  # further users, whom the mode leaves out
        return False
    own = group.gr_gid == user.pw_gid and group.gr_name == user.pw_name
    return own and set(group.gr_mem) <= {user.pw_name}


def _attributes(place: Path) -> list[str]:
    try:
        return os.listxattr(place) if hasattr(os, "listxattr") else []
    except OSError:  # a file system without them
        return []


@functools.cache
def _roots() -> frozenset[int]:
    """The ids of root: in a container without root, the id of unknown users."""
    try:
        maps = Path("/proc/self/uid_map").read_text(encoding="ascii").splitlines()
        unknown = int(Path("/proc/sys/kernel/overflowuid").read_text(encoding="ascii"))
    except (OSError, ValueError):  # another system than Linux
        return frozenset({0})
    mapped = any(int(line.split()[0]) == 0 for line in maps)
    return frozenset({0} if mapped else {0, unknown})
