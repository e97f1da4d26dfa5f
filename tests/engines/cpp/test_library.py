"""Compiled libraries: built once, kept, checked before they are loaded, shared by processes."""

import dataclasses
import errno
import json
import os
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from throughtime.core.errors import ConfigurationError
from throughtime.engines.cpp import building, cache, library
from throughtime.engines.cpp.cache import Entry, cache_entries, clear_cache
from throughtime.engines.cpp.compiler import CompilationError, Compiler, find_compiler, forget
from throughtime.engines.cpp.library import builds, library_key, load_library

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
    another_process(monkeypatch)
    return tmp_path / "cache" / "native"


def another_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget what this process has loaded."""
    monkeypatch.setattr(library, "_loaded", {})
    monkeypatch.setattr(library, "_builds", [])


def number(compiler: Compiler, value: int = 7) -> int:
    return load_library(SOURCE, {"NUMBER": value}, compiler).number()


def kept(folder: Path) -> set[str]:
    return {path.suffix for path in folder.iterdir()}


def test_built_once_and_kept(compiler: Compiler, folder: Path, monkeypatch) -> None:
    first = load_library(SOURCE, {"NUMBER": 7}, compiler)
    assert load_library(SOURCE, {"NUMBER": "7"}, compiler) is first
    assert [build.cached for build in builds()] == [False]
    assert kept(folder) == {".so", ".json"}
    entry = Entry(folder, builds()[0].key)
    record = json.loads(entry.record.read_text())
    assert record["compiler"] == compiler.version
    assert record["key"] == entry.key
    assert 0 < record["seconds"] <= builds()[0].seconds
    before = entry.library.stat()
    another_process(monkeypatch)
    assert number(compiler) == 7
    assert [build.cached for build in builds()] == [True]
    assert entry.library.stat() == before
    assert number(compiler, 8) == 8
    assert len(cache_entries()) == 2


def test_private_to_its_user(compiler: Compiler, folder: Path) -> None:
    number(compiler)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(folder.parent.stat().st_mode) == 0o700


def replace(path: Path, content: bytes) -> None:
    path.unlink()  # never in place: this process runs from that file
    path.write_bytes(content)


def corrupt(entry: Entry) -> None:
    content = bytearray(entry.library.read_bytes())
    content[len(content) // 2] ^= 1
    replace(entry.library, bytes(content))


def cut_short(entry: Entry) -> None:
    replace(entry.library, entry.library.read_bytes()[:100])


def link(entry: Entry) -> None:
    moved = entry.library.rename(entry.folder.parent / "elsewhere.so")
    entry.library.symlink_to(moved)


def link_of_the_record(entry: Entry) -> None:
    moved = entry.record.rename(entry.folder.parent / "elsewhere.json")
    entry.record.symlink_to(moved)


def foreign_json(entry: Entry) -> None:
    record = json.loads(entry.record.read_text())
    replace(entry.record, json.dumps(record | {"key": "0" * 32}).encode())


def other_format(entry: Entry) -> None:
    record = json.loads(entry.record.read_text())
    replace(entry.record, json.dumps(record | {"schema_version": 97}).encode())


def no_object(entry: Entry) -> None:
    replace(entry.record, b"[1, 2]")


def no_json(entry: Entry) -> None:
    replace(entry.record, b"\xff\x00{")


def no_record(entry: Entry) -> None:
    entry.record.unlink()


def no_library(entry: Entry) -> None:
    entry.library.unlink()


def pipe(entry: Entry) -> None:
    entry.library.unlink()
    os.mkfifo(entry.library)


def whole_but_no_library(entry: Entry) -> None:
    built = entry.folder / "new.so"
    built.write_bytes(b"no library, and the checksum is right")
    entry.publish(built, {})
    assert entry.valid()


@pytest.mark.parametrize(
    "damage",
    [
        *(corrupt, cut_short, link, link_of_the_record, foreign_json, other_format, no_object),
        *(no_json, no_record, no_library, pipe, whole_but_no_library),
    ],
)
def test_damaged_entries_are_built_again(
    compiler: Compiler, folder: Path, damage: Callable[[Entry], None], monkeypatch
) -> None:
    number(compiler)
    entry = Entry(folder, builds()[0].key)
    damage(entry)
    another_process(monkeypatch)
    assert number(compiler) == 7
    assert [build.cached for build in builds()] == [False]
    assert entry.valid()
    assert not entry.library.is_symlink()
    assert kept(folder) == {".so", ".json"}


def test_files_of_another_user_are_not_loaded(compiler: Compiler, folder: Path, monkeypatch):
    number(compiler)
    assert Entry(folder, builds()[0].key).valid()
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    assert not Entry(folder, builds()[0].key).valid()


def test_without_a_cache_folder(compiler: Compiler, tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("THROUGHTIME_CACHE", str(tmp_path / "file"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    assert cache.open_cache() == f"{tmp_path / 'file'}: File exists"
    assert number(compiler) == 7
    assert number(compiler) == 7
    assert [build.cached for build in builds()] == [False]
    assert not list((tmp_path / "temporary").iterdir())


def test_without_a_home(compiler: Compiler, monkeypatch, tmp_path) -> None:
    import platformdirs

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("THROUGHTIME_CACHE")
    monkeypatch.setattr(platformdirs, "user_cache_path", lambda *_, **__: Path("~/.cache"))
    assert "THROUGHTIME_CACHE can name one" in str(cache.open_cache())
    assert number(compiler) == 7
    assert not list(tmp_path.iterdir())


def test_with_a_cache_that_cannot_be_written(
    compiler: Compiler, folder: Path, monkeypatch, tmp_path
) -> None:
    """What it holds is used all the same. Root may write everywhere: the file system says no."""
    number(compiler)

    def refuse(prefix: str, dir: Path | None = None, **options: Any) -> object:
        if dir == folder:
            raise OSError(errno.EROFS, "Read-only file system")
        return directory(prefix=prefix, dir=dir, **options)

    directory = tempfile.TemporaryDirectory
    monkeypatch.setattr(tempfile, "TemporaryDirectory", refuse)
    another_process(monkeypatch)
    assert number(compiler) == 7
    assert number(compiler, 8) == 8
    assert [build.cached for build in builds()] == [True, False]
    assert kept(folder) == {".so", ".json"}


def test_with_a_full_disk(compiler: Compiler, folder: Path, monkeypatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Entry, "publish", full)
    assert number(compiler) == 7
    assert not list(folder.iterdir())


def test_errors_of_the_compiler_are_told(compiler: Compiler, folder: Path) -> None:
    with pytest.raises(CompilationError, match=r"(?s)cannot compile .*source\.cpp:1.*nonsense"):
        load_library("nonsense;\n", {}, compiler)
    assert not list(folder.iterdir())
    with pytest.raises(CompilationError, match="engine='eager', or name another compiler"):
        load_library("nonsense;\n", {}, compiler)
    assert builds() == []


def test_a_library_that_cannot_be_loaded(compiler: Compiler, folder: Path) -> None:
    source = 'extern "C" int missing(); extern "C" int number() { return missing(); }'
    flags = (*compiler.flags, "-Wl,-z,now")
    with pytest.raises(CompilationError, match=r"cannot be loaded.*missing"):
        load_library(source, {}, dataclasses.replace(compiler, flags=flags))
    assert not list(folder.iterdir())


def test_a_compiler_that_hangs(folder: Path, tmp_path: Path, monkeypatch) -> None:
    hanging = tmp_path / "c++"
    hanging.write_text("#!/bin/sh\nsleep 1000\n")
    hanging.chmod(0o755)
    monkeypatch.setattr(library, "BUILD_LIMIT", 0.04)
    with pytest.raises(CompilationError, match=r"got it was stopped after 0\.2 seconds"):
        number(dataclasses.replace(NOBODY, path=str(hanging)))
    assert not list(folder.iterdir())


def test_a_limit_counts_the_time_of_the_cpu(tmp_path: Path, monkeypatch) -> None:
    """A program that waits for its turn is given more; one that works in vain is stopped."""
    monkeypatch.setattr(building, "_WALL_LIMIT", 1000)
    shell = ["/bin/sh", "-c"]
    assert building.run_program([*shell, "sleep 0.2; echo done"], tmp_path, 0.1) == (0, "done\n")
    reported = "echo 'c++: error: CPU time limit exceeded signal terminated program x'; exit 1"
    for words in (reported, *(["while :; do :; done"] if sys.platform == "linux" else [])):
        stopped = building.run_program([*shell, words], tmp_path, 0.5)
        assert stopped == (None, "it was stopped after 1 seconds of CPU time")


def test_bad_definitions(folder: Path) -> None:
    with pytest.raises(ConfigurationError, match="value of the definition NUMBER"):
        load_library(SOURCE, {"NUMBER": "1 -o x"}, NOBODY)
    assert not list(folder.iterdir())


def test_the_key_is_of_all_that_matters(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(building, "SOURCE_FOLDER", tmp_path)
    (tmp_path / "vectors.h").write_text("1")
    keys = [library_key(SOURCE, {"A": 1}, NOBODY)]
    assert library_key(SOURCE, {"A": "1"}, NOBODY) == keys[0]
    keys += [
        library_key(SOURCE + " ", {"A": 1}, NOBODY),
        library_key(SOURCE, {"A": 2}, NOBODY),
        library_key(SOURCE, {"B": 1}, NOBODY),
        library_key(SOURCE, {}, NOBODY),
    ]
    for change in ({"path": "/c"}, {"version": "2"}, {"flags": ("-O2",)}, {"cpu": "another"}):
        keys.append(library_key(SOURCE, {"A": 1}, dataclasses.replace(NOBODY, **change)))
    (tmp_path / "vectors.h").write_text("2")
    keys.append(library_key(SOURCE, {"A": 1}, NOBODY))
    (tmp_path / "vectors.h").rename(tmp_path / "functions.h")
    keys.append(library_key(SOURCE, {"A": 1}, NOBODY))
    monkeypatch.setattr(library, "FORMAT", 97)
    keys.append(library_key(SOURCE, {"A": 1}, NOBODY))
    assert len(set(keys)) == len(keys)


def test_files_of_the_package_can_be_included(compiler: Compiler, tmp_path, monkeypatch) -> None:
    source = '#include "number.h"\n' + SOURCE
    (tmp_path / "a b").mkdir()
    monkeypatch.setattr(building, "SOURCE_FOLDER", tmp_path / "a b")
    for value in (3, 4):
        (tmp_path / "a b" / "number.h").write_text(f"#define NUMBER {value}\n")
        assert load_library(source, {}, compiler).number() == value


def test_threads_share_a_build(compiler: Compiler) -> None:
    found: list[int] = []
    threads = [
        threading.Thread(target=lambda v=value: found.append(number(compiler, v)))
        for value in (1, 2) * 4
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == [1] * 4 + [2] * 4
    assert len(builds()) == 2


# Without torch, which all of throughtime imports: eight processes are to start at once.
PROCESS = """\
import pathlib, sys, types
root = pathlib.Path(sys.argv[1])
for name in ("", ".core", ".engines", ".engines.cpp"):
    module = types.ModuleType("throughtime" + name)
    module.__path__ = [str(root.joinpath(*name.split(".")))]
    sys.modules[module.__name__] = module
from throughtime.engines.cpp.compiler import Compiler
from throughtime.engines.cpp.building import LibraryError, load
from throughtime.engines.cpp.library import builds, load_library
compiler = Compiler(sys.argv[2], "1", tuple(sys.argv[4:]), 16, "")
print("ready", flush=True)
sys.stdin.readline()
assert load_library(sys.argv[3], {"NUMBER": 7}, compiler).number() == 7
assert len(builds()) == 1
"""


def test_processes_do_not_get_into_each_others_way(compiler: Compiler, folder: Path) -> None:
    root = str(Path(library.__file__).parents[2])
    words = [sys.executable, "-c", PROCESS, root, compiler.path, SOURCE, *compiler.flags]
    processes = [
        subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(8)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.communicate("go\n")
    assert [process.returncode for process in processes] == [0] * 8
    assert kept(folder) == {".so", ".json"}
    assert [entry.valid() for entry in cache_entries()] == [True]


def test_clearing(folder: Path, tmp_path: Path) -> None:
    assert clear_cache() == 0
    assert not folder.exists()
    folder.mkdir(parents=True, mode=0o700)
    for name in ("0" * 32, "1" * 32):
        (tmp_path / "built.so").write_bytes(b"library")
        Entry(folder, name).publish(tmp_path / "built.so", {})
    Entry(folder, "1" * 32).record.unlink()
    (folder / "notes.txt").write_text("not ours")
    for name, age in (("building-old", 1000.0), ("building-now", 0.0)):
        (folder / name).mkdir()
        (folder / name / "library.so").write_bytes(b"")
        then = (folder / name).stat().st_mtime - age
        os.utime(folder / name, (then, then))
    assert [entry.key for entry in cache_entries()] == ["0" * 32, "1" * 32]
    assert cache_entries()[1].size() == len(b"library")
    assert clear_cache() == 2
    assert {path.name for path in folder.iterdir()} == {"notes.txt", "building-now"}
