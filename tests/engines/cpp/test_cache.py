"""The folder of compiled code: who may write there, full disks, compilers that make no library."""

import dataclasses
import errno
import os
import re
import stat
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from throughtime.engines.cpp import building, cache, library
from throughtime.engines.cpp.building import LibraryError, load
from throughtime.engines.cpp.cache import CacheFolderError, Entry
from throughtime.engines.cpp.compiler import CompilationError, Compiler, find_compiler, forget
from throughtime.engines.cpp.library import builds, load_library

SOURCE = 'extern "C" int number() { return NUMBER; }\n'
NOBODY = Compiler("/bin/false", "1.0", ("-O3",), 16, "a CPU")


@pytest.fixture(scope="module")
def compiler(tmp_path_factory: pytest.TempPathFactory) -> Compiler:
    """The compiler of this machine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("THROUGHTIME_CACHE", str(tmp_path_factory.mktemp("cache")))
        forget()
        found = find_compiler()
    if isinstance(found, str):
        pytest.skip(found)
    return found


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, in a process that has loaded nothing."""
    monkeypatch.setenv("THROUGHTIME_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(library, "_loaded", {})
    monkeypatch.setattr(library, "_builds", [])
    return tmp_path / "cache" / "native"


def number(compiler: Compiler, value: int = 7) -> int:
    return load_library(SOURCE, {"NUMBER": value}, compiler).number()


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o702])
def test_a_folder_that_others_may_write_is_refused(folder: Path, mode: int) -> None:
    folder.mkdir(parents=True)
    folder.chmod(mode)
    with pytest.raises(CacheFolderError, match=r"Run: chmod go-w .*, or set THROUGHTIME_CACHE"):
        number(NOBODY)


def test_a_folder_that_others_may_replace_is_refused(folder: Path) -> None:
    folder.mkdir(parents=True, mode=0o700)
    folder.parent.chmod(0o777)
    with pytest.raises(CacheFolderError, match=r"Run: chmod go-w .*cache, or set"):
        number(NOBODY)
    folder.parent.chmod(0o1777)  # as /tmp: nobody moves what is another's
    assert cache.open_cache() == folder


@pytest.mark.parametrize("above", [1, 2, 3])
def test_all_folders_above_are_checked(tmp_path: Path, monkeypatch, above: int) -> None:
    monkeypatch.setenv("THROUGHTIME_CACHE", str(tmp_path / "a" / "b" / "cache"))
    folder = cache.open_cache()
    assert isinstance(folder, Path)
    place = folder.parents[above]
    place.chmod(0o777)
    with pytest.raises(CacheFolderError, match=f"{re.escape(str(place))}, which other users may"):
        number(NOBODY)
    place.chmod(0o1777)
    assert cache.open_cache() == folder
    place.chmod(0o755)
    stat_of = Path.stat

    def foreign(path: Path, **options: Any) -> os.stat_result:
        state = list(stat_of(path, **options))
        state[stat.ST_UID] = 4321 if path == place else state[stat.ST_UID]
        return os.stat_result(state)

    monkeypatch.setattr(Path, "stat", foreign)
    with pytest.raises(CacheFolderError, match=r"of the user with id 4321.*own .id \d+. or root's"):
        number(NOBODY)


def test_folders_that_are_made_are_private(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("THROUGHTIME_CACHE", str(tmp_path / "a" / "b" / "cache"))
    before = os.umask(0)
    try:
        folder = cache.open_cache()
    finally:
        os.umask(before)
    assert folder == tmp_path / "a" / "b" / "cache" / "native"
    places = [folder, *folder.parents[:3]]
    assert [stat.S_IMODE(place.stat().st_mode) for place in places] == [0o700] * 4


def test_links_are_followed_before_the_check(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    (tmp_path / "open" / "mine").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "open" / "mine")
    monkeypatch.setenv("THROUGHTIME_CACHE", str(tmp_path / "link"))
    with pytest.raises(CacheFolderError, match=r"open, which other users may write"):
        number(NOBODY)
    (tmp_path / "open").chmod(0o700)
    assert cache.open_cache() == tmp_path / "open" / "mine" / "native"


def test_a_group_of_one_is_nobody_else(folder: Path, monkeypatch) -> None:
    grp, pwd = pytest.importorskip("grp"), pytest.importorskip("pwd")
    folder.mkdir(parents=True, mode=0o700)
    folder.parent.chmod(0o770)
    group, user = folder.parent.stat().st_gid, os.geteuid()
    entry = SimpleNamespace(pw_name="ann", pw_gid=group)
    monkeypatch.setattr(pwd, "getpwuid", {user: entry}.__getitem__)
    found = SimpleNamespace(gr_name="ann", gr_gid=group, gr_mem=[])
    monkeypatch.setattr(grp, "getgrgid", {group: found}.__getitem__)
    assert cache.open_cache() == folder
    found.gr_mem.append("bob")
    with pytest.raises(CacheFolderError, match="which other users may write"):
        cache.open_cache()
    found.gr_mem.clear()
    found.gr_name = "staff"
    with pytest.raises(CacheFolderError, match="which other users may write"):
        cache.open_cache()


@pytest.mark.skipif(sys.platform != "linux", reason="loads by descriptor on Linux alone")
def test_what_was_checked_is_what_is_loaded(compiler: Compiler, folder: Path, monkeypatch) -> None:
    """Another file in its place after the check, as whoever owns a folder above could put there."""
    number(compiler)
    entry = Entry(folder, builds()[0].key)
    number(compiler, 8)
    other = Entry(folder, builds()[1].key)
    with entry.opened() as file:
        other.library.replace(entry.library)
        assert load(file, ["number"]).number() == 7


def test_a_library_is_loaded_by_its_name_where_there_is_no_proc(
    compiler: Compiler, folder: Path, monkeypatch
) -> None:
    number(compiler)
    monkeypatch.setattr(building, "_DESCRIPTORS", "/none")
    with Entry(folder, builds()[0].key).opened() as file:
        assert load(file, ["number"]).number() == 7


def test_a_folder_of_another_user_is_refused(folder: Path, monkeypatch) -> None:
    folder.mkdir(parents=True, mode=0o700)
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with pytest.raises(CacheFolderError, match=r"of your own .id 12345.*set THROUGHTIME_CACHE"):
        number(NOBODY)


def full_at(monkeypatch: pytest.MonkeyPatch, *disks: Path) -> None:
    """No room below these folders."""

    def check(folder: Path) -> None:
        if any(disk in folder.parents for disk in disks):
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(cache, "_check_room", check)


def test_with_a_full_disk_it_is_built_with_the_temporary_files(
    compiler: Compiler, folder: Path, tmp_path: Path, monkeypatch
) -> None:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    picky = tmp_path / "c++"
    said = f"case $PWD in {folder}*) echo error: cannot write; exit 1;; esac"
    picky.write_text(f'#!/bin/sh\n{said}\nexec {compiler.path} "$@"\n')
    picky.chmod(0o755)
    with pytest.raises(CompilationError, match="error: cannot write"):  # the disk is not full
        number(dataclasses.replace(compiler, path=str(picky)))
    full_at(monkeypatch, folder)
    assert number(dataclasses.replace(compiler, path=str(picky))) == 7
    assert not list((tmp_path / "temporary").iterdir())
    full_at(monkeypatch, folder, tmp_path / "temporary")
    reason = rf"{folder}: No space left on device; {tmp_path}/temporary: No space .*Free some"
    with pytest.raises(CompilationError, match=reason):
        number(NOBODY)


def test_what_killed_builds_have_left_is_removed(
    compiler: Compiler, folder: Path, tmp_path: Path, monkeypatch
) -> None:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    cache.open_cache()
    old = [folder / "building-x", tmp_path / "temporary" / "throughtime-building-x"]
    others = [folder / "building-now", tmp_path / "temporary" / "throughtime-mine"]
    for path in (*old, *others):
        path.mkdir()
        (path / "library.so").touch()
        if path != others[0]:
            os.utime(path, (1e9, 1e9))
    full_at(monkeypatch, folder)
    with pytest.raises(CompilationError):
        number(NOBODY)  # looks for a place at both
    assert [path.exists() for path in (*old, *others)] == [False, False, True, True]


def test_a_compiler_that_builds_what_is_no_library(
    compiler: Compiler, folder: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "c++"
    for text, said in {
        "echo text > library.so": "invalid ELF header|file too short|not a mach-o",
        ": > library.so": "file too short|empty",
        f'{compiler.path} "$@" -DOTHER && head -c 9000 library.so > x && mv x library.so': "short",
        f'{compiler.path} "$@" -Dnumber=another': "it has no function number",
    }.items():
        broken.write_text(f"#!/bin/sh\n{text}\n")
        broken.chmod(0o755)
        with pytest.raises(CompilationError, match=f"cannot be loaded: got .*({said})"):
            number(dataclasses.replace(compiler, path=str(broken)))
    assert not list(folder.iterdir())


def test_a_compiler_that_floods_its_output(folder: Path, tmp_path: Path, monkeypatch) -> None:
    flooding = tmp_path / "c++"
    flooding.write_text("#!/bin/sh\necho fatal error: first\nexec yes error\n")
    flooding.chmod(0o755)
    monkeypatch.setattr(building, "_MOST_OUTPUT", 1 << 22)
    with pytest.raises(CompilationError, match="got it was stopped after more than 4 MB of output"):
        number(dataclasses.replace(NOBODY, path=str(flooding)))
    flooding.write_text("#!/bin/sh\necho fatal error: first\nyes error | head -c 3000000\nexit 1\n")
    with pytest.raises(CompilationError, match="got fatal error: first; error; error"):
        number(dataclasses.replace(NOBODY, path=str(flooding)))


def test_libraries_that_are_cut_short_anywhere_are_refused(
    compiler: Compiler, folder: Path, tmp_path: Path
) -> None:
    """Reading beyond the end of a mapped file kills the process: no length may come that far."""
    number(compiler)
    whole = Entry(folder, builds()[0].key).library.read_bytes()
    for length in (*range(0, 4096, 61), *range(4096, len(whole), 997), len(whole) - 1):
        path = tmp_path / "short.so"
        path.write_bytes(whole[:length])
        with path.open("rb") as file, pytest.raises(LibraryError):
            load(file, [])
        path.unlink()
