"""`throughtime compiler`: what is found and kept, for people and for machines."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from throughtime.cli.main import main
from throughtime.engines.cpp.cache import Entry
from throughtime.engines.cpp.compiler import find_compiler, forget

pytestmark = pytest.mark.without_compiler


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("THROUGHTIME_CACHE", str(tmp_path / "cache"))
    forget()
    yield tmp_path / "cache" / "native"
    forget()


@pytest.fixture
def compiler(cache: Path):
    found = find_compiler()
    if isinstance(found, str):
        pytest.skip(found)
    return found


def add_library(cache: Path) -> None:
    cache.mkdir(parents=True, mode=0o700, exist_ok=True)
    (cache.parent / "built.so").write_bytes(b"x" * 1000)
    Entry(cache, "0" * 32).publish(cache.parent / "built.so", {})


def rows(text: str) -> dict[str, str]:
    """The lines by their first words, those that go on joined."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        assert len(line.rstrip()) <= 80
        name = line[:11].strip() or [*found][-1]
        found[name] = f"{found.get(name, '')} {line[11:].strip()}".strip()
    return found


def test_shown(compiler, capsys) -> None:
    assert main(["compiler"]) == 0
    found = rows(capsys.readouterr().out)
    assert "".join(found["compiler"].split()) == "".join(compiler.path.split())
    assert found["vectors"] == f"{compiler.vector_bytes} bytes"
    assert found["flags"] == " ".join(compiler.flags)
    assert found["cpu"] == compiler.cpu
    assert found["libraries"] == "0 (0.0 kB)"
    assert "check" not in found


def test_check(compiler, cache: Path, capsys) -> None:
    for _ in range(2):
        assert main(["compiler", "--check"]) == 0
        assert "compiled, kept in the cache, loaded and run in 0." in capsys.readouterr().out
    assert not list(cache.iterdir())


def test_check_without_a_cache(compiler, cache: Path, capsys) -> None:
    cache.rmdir()
    cache.write_text("in the way")
    assert main(["compiler", "--check"]) == 0
    found = rows(capsys.readouterr().out)
    assert found["check"].startswith("compiled, not kept, loaded and run in 0.")
    assert found["problem"].endswith("nothing is kept, each process compiles anew")


def test_as_json(compiler, cache: Path, capsys) -> None:
    add_library(cache)
    assert main(["compiler", "--check", "--clear", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["compiler"]["path"] == compiler.path
    assert found["compiler"]["flags"] == list(compiler.flags)
    assert found["reason"] is None
    assert list(found["tried"].values())[-1] == compiler.path
    empty = {"folder": str(cache), "problem": None, "libraries": 0, "bytes": 0}
    assert found["cache"] == empty
    assert found["removed"] == 1
    assert found["check"]["kept"] is True
    assert 0 < found["check"]["seconds"] < 60


def test_none(monkeypatch, tmp_path, cache: Path, capsys) -> None:
    add_library(cache)
    monkeypatch.delenv("THROUGHTIME_CXX", raising=False)
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["compiler"]) == 0
    found = rows(capsys.readouterr().out)
    assert found["compiler"].startswith("none: no C++ compiler works here: c++: not found; ")
    assert found["tried"] == "c++: not found g++: not found clang++: not found"
    assert found["libraries"].startswith("1 (1.")
    assert main(["compiler", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["compiler"] is None
    assert found["reason"].startswith("no C++ compiler works here")
    assert main(["compiler", "--check"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(
        "throughtime: error: engine 'native' cannot: no C++ compiler works here"
    )


def test_switched_off(monkeypatch, capsys) -> None:
    monkeypatch.setenv("THROUGHTIME_CXX", "none")
    assert main(["compiler"]) == 0
    assert "switched off by THROUGHTIME_CXX=none" in " ".join(capsys.readouterr().out.split())


def test_clear(cache: Path, monkeypatch, capsys) -> None:
    monkeypatch.setenv("THROUGHTIME_CXX", "none")
    add_library(cache)
    assert main(["compiler", "--clear"]) == 0
    assert rows(capsys.readouterr().out)["libraries"] == "0 (0.0 kB); 1 removed"
    assert not list(cache.iterdir())


def test_cache_that_others_may_write(cache: Path, capsys, monkeypatch) -> None:
    monkeypatch.setenv("THROUGHTIME_CXX", "none")
    cache.mkdir(parents=True)
    cache.chmod(0o777)
    assert main(["compiler"]) == 0
    assert "which other users may write" in rows(capsys.readouterr().out)["problem"]
