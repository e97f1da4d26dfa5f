"""`throughtime compare`, from its words to what it prints."""

import contextlib
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import warm

from throughtime.cli.main import main
from throughtime.reports import read_comparison
from throughtime.studies import plan

TINY = ["digits:pixels_per_step=8", "--models", "rnn:hidden=3,gru:hidden=3", "--seeds", "2"]
TINY = ["compare", *TINY, "--steps", "5", "--jobs", "1"]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """80 columns, and one thread a run."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(plan, "_share_cores", lambda request: (request.jobs, 1))


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished comparison, to be copied."""
    folder = tmp_path_factory.mktemp("compared")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "_share_cores", lambda request: (request.jobs, 1))
        assert main([*TINY, "--out", str(folder), "--quiet"]) == 0
    return folder


@pytest.fixture
def finished(compared: Path, tmp_path: Path, capsys) -> Path:
    """A finished comparison in a folder of the test's own."""
    capsys.readouterr()
    return shutil.copytree(compared, tmp_path / "finished")


def test_table_finding_and_report(tmp_path, capsys) -> None:
    assert main([*TINY, "--out", str(tmp_path)]) == 0
    captured = capsys.readouterr()
    lines = captured.out.splitlines()
    assert lines[0] == "digits:pixels_per_step=8: 2 seeds, chance 10.3 %"
    rows = [line.split()[0] for line in lines if "±" in line]
    assert rows[:2] == ["rnn:hidden=3", "gru:hidden=3"]
    assert any("digits:pixels_per_step=8" in line for line in lines[8:])
    assert max(map(len, lines[:-1])) <= 80
    assert lines[-1] == f"report: {tmp_path / 'report.html'}"
    assert (tmp_path / "report.html").stat().st_size > 10**6


def test_progress_in_plain_lines(tmp_path, capsys) -> None:
    main([*TINY, "--out", str(tmp_path)])
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "rnn:hidden=3, seed 0: started"
    assert lines[1].startswith("rnn:hidden=3, seed 0: completed: test accuracy ")
    assert lines[1].endswith(" (1 of 4 runs)")
    assert lines[-1].startswith("gru:hidden=3, seed 1: completed: test accuracy ")
    assert lines[-1].endswith(" (4 of 4 runs)")
    assert len(lines) == 8


def test_quiet(tmp_path, capsys) -> None:
    assert main([*TINY, "--out", str(tmp_path), "--quiet"]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert "report:" in captured.out


def test_json_is_all_there_is_on_stdout(tmp_path, capsys) -> None:
    assert main([*TINY, "--out", str(tmp_path), "--json"]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    found = json.loads(captured.out, parse_constant=pytest.fail)
    comparison = read_comparison(tmp_path)
    assert found["schema_version"] == 1
    assert found["report"] == str(tmp_path / "report.html")
    assert found["task"]["dependency_length"] == 7
    assert [model["label"] for model in found["models"]] == ["rnn:hidden=3", "gru:hidden=3"]
    for model, read in zip(found["models"], comparison.models, strict=True):
        accuracy = read.test("accuracy")
        assert accuracy is not None
        assert model["test_accuracy"]["mean"] == accuracy.mean
        assert model["test_accuracy"]["n"] == 2
        assert [run["test"] for run in model["runs"]] == [run.test for run in read.runs]
        assert [run["seed"] for run in model["runs"]] == [0, 1]
        assert model["parameters"] == read.runs[0].parameters


def test_usual_folder(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([*TINY, "--quiet"]) == 0
    assert (tmp_path / "runs/compare-digits-pixels_per_step-8/report.html").exists()
    assert "report: runs/compare-digits-pixels_per_step-8/report.html" in capsys.readouterr().out


def test_run_again_from_another_folder(finished, capsys) -> None:
    assert main([*TINY, "--out", str(finished), "--quiet"]) == 0
    first = capsys.readouterr().out
    assert main([*TINY, "--out", str(finished), "--quiet"]) == 0
    assert capsys.readouterr().out == first


def test_other_steps_in_the_same_folder(finished, capsys) -> None:
    assert main([*TINY, "--out", str(finished), "--steps", "6", "--models", "gru:hidden=3"]) == 0
    printed = capsys.readouterr().out
    assert "\n gru:hidden=3 " in printed
    assert "\n gru:hidden=3, steps=6 " in printed


def test_folders_of_runs_and_comparisons_are_not_mixed(finished, tmp_path, capsys) -> None:
    one, both = tmp_path / "one", finished.rename(tmp_path / "both")
    words = ["digits:pixels_per_step=8", "gru:hidden=3", "--steps", "2", "--quiet", "--out"]
    assert main(["train", *words, str(one)]) == 0
    capsys.readouterr()
    assert main(["train", *words, str(both)]) == 1
    assert "both holds a comparison: expected the folder of a run" in capsys.readouterr().err
    assert main([*TINY, "--out", str(one), "--quiet"]) == 1
    assert "one holds a single run: expected the folder of a comp" in capsys.readouterr().err


TOO_LONG = ["digits:pixels_per_step=8", "--models", "rnn:hidden=3,rnn:hidden=4", "--seeds", "1"]
TOO_LONG = ["compare", *TOO_LONG, "--steps", "100000000", "--jobs", "2"]


def stops_cleanly(
    process: "subprocess.Popen[bytes] | multiprocessing.Process",
    sent: signal.Signals,
    out: Path,
    errors: Path,
    ready: Callable[[str], bool],
) -> int | None:
    """Send a signal to the group of a process as soon as it is ready; return its exit code."""
    assert process.pid is not None
    end = time.monotonic() + 120
    try:
        while not (errors.exists() and ready(errors.read_text())):
            assert time.monotonic() < end
            time.sleep(0.02)
        os.killpg(process.pid, sent)
        if isinstance(process, subprocess.Popen):
            code = process.wait(60)
        else:
            process.join(60)
            code = process.exitcode
    finally:
        with contextlib.suppress(ProcessLookupError):  # what fails here must not wait for ever
            os.killpg(process.pid, signal.SIGKILL)
    said = errors.read_text()
    assert said.splitlines()[-1] == (
        f"throughtime: stopped: {out} was interrupted with 0 of 2 runs done. "
        "All is saved: the same call or command goes on from there."
    )
    assert "Traceback" not in said
    assert len(list(out.glob("*/seed-0/latest"))) == 2
    return code


def test_signals_with_workers_stop_cleanly_and_it_goes_on(tmp_path) -> None:
    """Ctrl-C, then SIGTERM, as a terminal and a supervisor send them: to every process of the
    group. The runs are too long to end first."""
    out, printed, errors = (tmp_path / name for name in ("out", "printed", "errors"))
    words = [*TOO_LONG, "--out", str(out)]
    with printed.open("wb") as stdout, errors.open("wb") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "throughtime", *words],
            env={**os.environ, **warm.ENVIRONMENT},
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
        )
        code = stops_cleanly(
            process,
            signal.SIGINT,
            out,
            errors,
            lambda _: len(list(out.glob("*/seed-0/metrics.jsonl"))) == 2,
        )
    assert code == 130
    assert printed.read_text() == ""

    # A run that was stopped before its first step starts, one that was stopped later goes on.
    errors.unlink()
    arguments = (warm.command, words, printed, errors)
    process = warm.context().Process(target=warm.call, args=arguments)
    process.start()
    code = stops_cleanly(
        process,
        signal.SIGTERM,
        out,
        errors,
        lambda said: said.count(": from step ") + said.count(": started") == 2,
    )
    assert code == 143
    assert printed.read_text() == ""
