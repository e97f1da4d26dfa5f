"""Folders whose content no other user can change, up to the root of the file system."""

import functools
import os
import shlex
import stat
from pathlib import Path

from throughtime.core.errors import ThroughtimeError


class CacheFolderError(ThroughtimeError, RuntimeError):
    """Others could change the libraries that this process loads, or there is no place for them."""


def check_private(folder: Path, variable: str) -> None:
    """Compiled code runs with all rights of this user: nobody else may put it there.

    The folder must belong to the user. Each folder above it belongs to the user or to root, and is
    written by nobody else; or it is sticky, as /tmp is, where nobody moves what is another's.

    Arguments:
        folder: without links in its path.
        variable: of the environment, which can name another.

    Raises:
        CacheFolderError: others could change it; it says what to do.
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
    """Whether a group has no member but this user, as many systems make one for each user."""
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
    """The ids that root has here: in a container without root, that of users who are not known."""
    try:
        maps = Path("/proc/self/uid_map").read_text(encoding="ascii").splitlines()
        unknown = int(Path("/proc/sys/kernel/overflowuid").read_text(encoding="ascii"))
    except (OSError, ValueError):  # another system than Linux
        return frozenset({0})
    mapped = any(int(line.split()[0]) == 0 for line in maps)
    return frozenset({0} if mapped else {0, unknown})
