"""`throughtime list` and `throughtime version`."""

import importlib.metadata
import json
import platform

import pytest
import torch

from throughtime.cli.main import main
from throughtime.engines import ENGINES
from throughtime.models import MODELS
from throughtime.tasks import TASKS


@pytest.fixture(autouse=True)
def eighty_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


def test_everything_is_listed_with_its_options(capsys) -> None:
    assert main(["list"]) == 0
    text = capsys.readouterr().out
    assert max(len(line.rstrip()) for line in text.splitlines()) <= 80
    words = text.split()
    for registry in (TASKS, MODELS):
        for name in registry:
            assert name in words
            for option in registry.options(name):
                assert any(word.startswith(f"{option}=") for word in words)


@pytest.mark.parametrize(
    ("what", "there", "not_there"),
    [
        ("tasks", "temporal-order", "lstm-peephole"),
        ("models", "lstm-peephole", "temporal-order"),
    ],
)
def test_one_of_them(what: str, there: str, not_there: str, capsys) -> None:
    assert main(["list", what]) == 0
    words = capsys.readouterr().out.split()
    assert there in words
    assert not_there not in words


def test_list_as_json(capsys) -> None:
    assert main(["list", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found) == {"tasks", "models", "learners", "feedback"}
    assert set(found["models"]) == set(MODELS)
    assert found["models"]["skip-rnn"] == {
        "description": MODELS.describe("skip-rnn"),
        "options": MODELS.options("skip-rnn"),
    }


@pytest.mark.parametrize("word", ["--version", "-V"])
def test_version_alone(word: str, capsys) -> None:
    assert main([word]) == 0
    assert capsys.readouterr().out == f"throughtime {importlib.metadata.version('throughtime')}\n"


def test_no_trailing_blanks_where_it_is_no_terminal(capsys) -> None:
    assert main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == [line.rstrip() for line in lines]


def test_version(capsys) -> None:
    assert main(["version"]) == 0
    lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert lines["torch"] == torch.__version__
    assert lines["python"] == platform.python_version()
    assert lines["engines"] == ", ".join(ENGINES)
    assert "throughtime" in lines


def test_version_as_json(capsys) -> None:
    assert main(["version", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["engines"] == list(ENGINES)
