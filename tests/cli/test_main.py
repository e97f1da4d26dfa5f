"""The command as a whole: help, messages, exit codes."""

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from throughtime.cli.main import COMMANDS, main

SOURCES = str(Path(__file__).parents[2] / "src")


def run(*words: str) -> subprocess.CompletedProcess[str]:
    """`python -m throughtime` in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "throughtime", *words],
        env={**os.environ, "PYTHONPATH": SOURCES, "COLUMNS": "80"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_python_m_throughtime() -> None:
    helped = run("--help")
    assert helped.returncode == 0
    assert helped.stdout.startswith("usage: throughtime COMMAND")
    assert helped.stderr == ""
    assert run("comapre").returncode == 2


def test_help_names_every_command_within_80_columns(capsys) -> None:
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 80
    for name, what in COMMANDS.items():
        assert f"  {name}" in text
        assert what in text
        assert callable(importlib.import_module(f"throughtime.cli.{name}").run)


def test_no_command_is_a_usage_error(capsys) -> None:
    assert main([]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("usage: throughtime COMMAND")


def test_help_without_torch() -> None:
    """Help, versions and wrong words need none of what the commands need."""
    script = (
        "import sys; from throughtime.cli.main import COMMANDS, main\n"
        "for words in (['--help'], ['--version'], ['help', 'compare'], ['compare', '--sedes', '3'],"
        " *([name, '--help'] for name in COMMANDS)): main(words)\n"
        "print(sorted({'torch', 'numpy', 'plotly', 'jinja2', 'pooch'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": SOURCES},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    "words", [["help", "compare"], ["compare", "-h"], ["-h", "compare"], ["compare", "x", "--help"]]
)
def test_help_of_a_command_in_all_its_spellings(words: list[str], capsys) -> None:
    assert main(words) == 0
    assert capsys.readouterr().out.startswith("usage: throughtime compare TASK [options]\n")


def test_help_of_an_unknown_command(capsys) -> None:
    assert main(["help", "comapre"]) == 2
    assert "unknown command 'comapre'. Did you mean 'compare'" in capsys.readouterr().err


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_commands_within_80_columns(name: str, capsys, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main([name, "--help"]) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith(f"usage: throughtime {name} ")
    assert max(map(len, captured.out.splitlines())) <= 80
    assert "default: None" not in " ".join(captured.out.split())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            "comapre digits",
            "throughtime: error: unknown command 'comapre'. Did you mean 'compare'",
        ),
        (
            "xyz",
            "throughtime: error: unknown command 'xyz'. There are: diagnose, inspect, compare, "
            "reproduce, train, sample, translate, chat, judge, list, complexity, compiler, "
            "version.",
        ),
        ("compare digts", "unknown task: got 'digts', expected one of: "),
        ("compare digts", "Did you mean 'digits'"),
        ("compare digits --models lsmt", "unknown model: got 'lsmt'"),
        ("compare digits --models lsmt", "Did you mean 'lstm' or 'slstm'?"),
        ("compare digits --models rnn:hiden=3", "unknown option of model 'rnn': got 'hiden'"),
        ("compare digits --models rnn:hidden=many", "got 'many', expected a whole number"),
        ("compare digits --models rnn:hidden", "expected hidden=VALUE"),
        ("compare digits --models hidden=3", "got the option 'hidden=3' without a model"),
        ("compare digits --length 5", "unknown option of task 'digits': got 'length'"),
        ("compare digits --seeds 0", "seeds of the comparison: got 0, expected at least 1"),
        ("compare digits --data-dir x", "reads no files"),
        ("train digits lsmt", "Did you mean 'lstm' or 'slstm'?"),
        ("train digits lstm --optimizer Adm", "Did you mean 'Adam'"),
        ("train digits lstm --steps 0", "steps of the run: got 0, expected a whole number"),
        ("train digits lstm --optimizer-options momentum", "got 'momentum', expected NAME=VALUE"),
        ("train digits lstm --optimizer-options x=1", "unknown option of optimizer 'Adam'"),
    ],
)
def test_usage_errors(words: str, message: str, capsys, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(words.split()) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert message in captured.err
    assert not list(tmp_path.iterdir()), "nothing is written"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("compare digits --modls rnn", "compare has no option --modls. Did you mean '--models'"),
        ("compare digits -s 3", "compare has no option -s."),
        ("compare digits --seeds three", "--seeds: got 'three', expected a whole number"),
        ("compare digits --seeds=three", "--seeds: got 'three', expected a whole number"),
        ("compare digits --seeds", "--seeds: got no value, expected N"),
        ("compare digits --seeds --json", "--seeds: got no value, expected N"),
        ("compare digits --json=yes", "--json: got 'yes', expected no value"),
        ("compare", "TASK is missing: expected throughtime compare TASK [options]. `throughtime "),
        ("compare --task digits", "compare has no option --task."),
        ("train", "TASK and MODEL are missing: expected throughtime train TASK MODEL [options]"),
        ("train digits", "MODEL is missing"),
        ("train digits rnn --clip-norm x", "--clip-norm: got 'x', expected a number, or none"),
        ("train digits rnn --schedule cosin", "Did you mean 'cosine'"),
        ("train digits rnn --learner bppt", "Did you mean 'bptt'"),
        ("train digits lstm:hiden=64", "got 'hiden', expected one of: "),
        ("train digits lstm:engine=natve", "Did you mean 'native'?"),
        (
            "list tsks",
            "KIND: got 'tsks', expected one of: tasks, models, learners, feedback, all. Did you",
        ),
        ("compare digits --variants", "--variants: got no value, expected TEXT"),
        ("train digits rnn --optimizer sgd", "Did you mean 'SGD'"),
        ("train digits LSTM", "Did you mean 'lstm'"),
        ("reproduce skip", "Did you mean 'skip-coefficient'"),
        ("reproduce skip-coefficent", "Did you mean 'skip-coefficient'"),
        ("reproduce skip-coefficient --scale smal", "Did you mean 'small'"),
        ("version now", "version takes no further word: got 'now'. `throughtime version --help`"),
    ],
)
def test_options_that_do_not_parse(words: str, message: str, capsys, unchecked) -> None:
    assert main(words.split()) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("throughtime: error: ")
    assert message in captured.err
    assert len(captured.err.splitlines()) == 1


@pytest.mark.parametrize("command", ["compare digits --models rnn", "train digits rnn"])
def test_failures(command: str, capsys, tmp_path) -> None:
    (tmp_path / "file").write_text("")
    words = [*command.split(), "--steps", "1", "--out", str(tmp_path / "file" / "out")]
    assert main(words) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("throughtime: error: cannot write ")


def test_missing_device_is_a_failure(capsys) -> None:
    assert main(["train", "digits", "rnn", "--device", "cuda:97"]) == 1
    assert "throughtime: error: device of the run: got 'cuda:97'" in capsys.readouterr().err


def test_closed_pipe_is_no_traceback() -> None:
    """`throughtime list | head -1`"""
    process = subprocess.Popen(
        [sys.executable, "-m", "throughtime", "list", "--json"],
        env={**os.environ, "PYTHONPATH": SOURCES},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    said = process.stderr.read()
    process.stderr.close()
    process.wait()
    assert said == ""
    assert process.returncode == 1
