"""Finding the C++ compiler: which one is taken, what is wrong with the others, and no shell."""

import os
import platform
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from throughtime.core.errors import ConfigurationError
from throughtime.engines.cpp import building, compiler
from throughtime.engines.cpp.compiler import Compiler, find_compiler, forget

pytestmark = pytest.mark.without_compiler


@pytest.fixture
def working(tmp_path_factory: pytest.TempPathFactory) -> Compiler:
    """The compiler of this machine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("THROUGHTIME_CACHE", str(tmp_path_factory.mktemp("cache")))
        forget()
        found = find_compiler()
    if isinstance(found, str):
        pytest.skip(found)
    return found


@pytest.fixture
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """No compiler: an empty folder is the whole PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setenv("THROUGHTIME_CACHE", str(tmp_path / "cache"))
    for variable in ("CXX", "THROUGHTIME_CXX"):
        monkeypatch.delenv(variable, raising=False)
    forget()
    yield folder
    forget()


def script(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def running(process: int) -> bool:
    """Whether a process is there and is no zombie."""
    stat = Path(f"/proc/{process}/stat")
    return stat.exists() and ") Z" not in stat.read_text()


def test_no_compiler_at_all(alone: Path) -> None:
    reason = find_compiler()
    assert reason == (
        "no C++ compiler works here: c++: not found; g++: not found; clang++: not found. "
        "Install g++ or clang++, or name a compiler in THROUGHTIME_CXX"
    )


@pytest.mark.parametrize("value", ["", "none", "None"])
def test_switched_off(alone: Path, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    script(alone / "c++", "touch ran")
    monkeypatch.setenv("THROUGHTIME_CXX", value)
    assert find_compiler() == f"the native engine is switched off by THROUGHTIME_CXX={value}"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("echo warning: hm; echo fatal error: no room >&2; exit 1", "c++: fatal error: no room;"),
        ("echo 'I am broken.'; exit 1", "c++: I am broken;"),
        ("exit 3", "c++: exit code 3 and no message;"),
        ("exit 0", "c++: exit code 0, but no library;"),
        ("echo garbage > library.so", "c++: what it compiles cannot be loaded ("),
    ],
)
def test_broken_compiler(alone: Path, text: str, said: str) -> None:
    script(alone / "c++", text)
    reason = find_compiler()
    assert isinstance(reason, str)
    assert said in reason
    assert "clang++: not found" in reason


def test_compiler_that_is_no_program(alone: Path) -> None:
    (alone / "c++").write_bytes(b"\x00\x01\x02")
    (alone / "c++").chmod(0o755)
    assert "c++: error: Exec format error; g++" in str(find_compiler())


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="asks /proc for processes")
def test_hanging_compiler_is_killed_with_its_children(alone: Path, monkeypatch) -> None:
    pid, sleep = alone / "pid", shutil.which("sleep", path=os.defpath)
    script(alone / "c++", f"{sleep} 1000 & echo $! > '{pid}'; {sleep} 1000")
    monkeypatch.setattr(compiler, "PROBE_LIMIT", 0.1)
    start = time.monotonic()
    assert "c++: it was stopped after 0.5 seconds" in str(find_compiler())
    assert time.monotonic() - start < 10
    deadline = time.monotonic() + 5
    while running(int(pid.read_text())):
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("variable", ["THROUGHTIME_CXX", "CXX"])
@pytest.mark.parametrize(
    "command", ["/bin/true; touch {}", "$(touch {})", "`touch {}`", "/bin/sh -c 'touch {}'", "-x"]
)
def test_no_shell(alone: Path, variable: str, command: str, monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("PATH", f"{alone}{os.pathsep}{os.defpath}")
    monkeypatch.setattr(compiler, "NAMES", ())
    command = command.format(tmp_path / "touched")
    monkeypatch.setenv(variable, command)
    reason = find_compiler()
    assert isinstance(reason, str)
    assert f"{variable}={command}: not found" in reason
    assert not (tmp_path / "touched").exists()


def test_odd_characters_in_a_path(working: Compiler, alone: Path, monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("PATH", os.defpath)
    folder = tmp_path / "a b; $(touch touched) 'c'"
    folder.mkdir()
    named = script(folder / "my c++", f"exec '{working.path}' \"$@\"")
    monkeypatch.setenv("THROUGHTIME_CXX", str(named))
    monkeypatch.setenv("THROUGHTIME_CACHE", str(folder))
    found = find_compiler()
    assert isinstance(found, Compiler)
    assert found.path == str(named)
    assert not list(tmp_path.rglob("touched"))


def test_the_named_one_and_no_other(working: Compiler, alone: Path, monkeypatch) -> None:
    (alone / "c++").symlink_to(working.path)
    monkeypatch.setenv("THROUGHTIME_CXX", "gcc-97")
    assert find_compiler() == (
        "the C++ compiler does not work: THROUGHTIME_CXX=gcc-97: not found. "
        "It has to be one program, without arguments"
    )


def test_the_first_that_works(working: Compiler, alone: Path, monkeypatch) -> None:
    monkeypatch.setenv("PATH", f"{alone}{os.pathsep}{os.defpath}")
    monkeypatch.setenv("CXX", "ccache g++")
    script(alone / "c++", "echo error: broken; exit 1")
    (alone / "g++").symlink_to(working.path)
    search = compiler.search()
    assert isinstance(search.found, Compiler)
    assert search.found.path == str(alone / "g++")
    assert search.tried == {
        "CXX=ccache g++": "not found",
        "c++": "error: broken",
        "g++": str(alone / "g++"),
    }


def test_cxx_comes_first(working: Compiler, alone: Path, monkeypatch) -> None:
    monkeypatch.setenv("PATH", f"{alone}{os.pathsep}{os.defpath}")
    (alone / "mine").symlink_to(working.path)
    monkeypatch.setenv("CXX", "mine")
    found = find_compiler()
    assert isinstance(found, Compiler)
    assert found.path == str(alone / "mine")


def test_looked_for_once_a_process(alone: Path, tmp_path: Path) -> None:
    script(alone / "c++", f"echo again >> '{tmp_path}/ran'; exit 1")
    assert find_compiler() is find_compiler()
    assert (tmp_path / "ran").read_text() == "again\n"
    forget()
    (alone / "c++").unlink()
    assert "c++: not found" in str(find_compiler())


def test_what_is_known_of_it(working: Compiler) -> None:
    assert Path(working.path).is_absolute()
    assert working.version
    assert "\n" not in working.version
    assert "-O3" in working.flags
    assert re.fullmatch(r".+ \([0-9a-f]{12}\)", working.cpu)
    machine = platform.machine()
    assert ("-march=native" in working.flags) == (machine in ("x86_64", "i686", "AMD64"))


@pytest.mark.skipif(
    platform.machine() != "x86_64" or not Path("/proc/cpuinfo").exists(),
    reason="features in the words of x86 and Linux",
)
def test_width_of_vectors(working: Compiler) -> None:
    features = set(Path("/proc/cpuinfo").read_text().split())
    wide = 64 if "avx512f" in features else 32 if {"avx2", "fma"} <= features else 16
    assert working.vector_bytes == wide


def test_nowhere_to_try_it(alone: Path, tmp_path: Path) -> None:
    script(alone / "c++", "exit 1")
    (tmp_path / "cache" / "native").mkdir(parents=True)
    (tmp_path / "cache" / "native").chmod(0o777)
    reason = str(find_compiler())
    assert "which other users may write" in reason
    assert reason.endswith("THROUGHTIME_CACHE to a folder of your own")


def test_windows(alone: Path, monkeypatch) -> None:
    monkeypatch.setattr(compiler, "_SYSTEM", "nt")
    assert find_compiler() == "the native engine is not supported on Windows yet"


@pytest.mark.parametrize(
    ("name", "value"),
    [("A B", 1), ("A=1 -o x", 1), ("-x", 1), ("", 1), ("A", "1;2"), ("A", ""), ("A", -1), ("Ä", 1)],
)
def test_definitions_are_plain(name: str, value: str | int, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="expected"):
        building.compile_source("", {name: value}, ["/bin/false"], tmp_path, 1.0)
    assert not list(tmp_path.iterdir())
