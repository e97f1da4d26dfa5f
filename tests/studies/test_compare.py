"""Comparisons as they are run: once each, in any number of processes, and on after any stop."""

import contextlib
import dataclasses
import json
import multiprocessing
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import warm

from throughtime.core.errors import (
    LearnerRefusalError,
    RunError,
    RunInterrupted,
    RunMismatchError,
    RunWriteError,
    UnknownNameError,
)
from throughtime.reports import read_comparison
from throughtime.results import Comparison
from throughtime.studies import CompareRequest, Done, Planned, StudyEvent, Waiting, compare, plan
from throughtime.studies import compare as compare_function
from throughtime.studies.request import Variant
from throughtime.training import Progress, RunFolder, Started
from throughtime.training import run as run_module

TASK = "digits:pixels_per_step=8"
TINY = CompareRequest(TASK, ("rnn:hidden=3", "lstm:hidden=3"), seeds=2, steps=6, jobs=1)
MODULE = sys.modules[compare_function.__module__]


@pytest.fixture(autouse=True)
def one_thread_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many cores there are, which other tests may be using."""
    monkeypatch.setattr(plan, "_share_cores", lambda request: (request.jobs, 1))


@pytest.fixture
def warm_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers forked from a process that is warm, rather than started anew."""
    context = warm.context()
    monkeypatch.setattr(MODULE.multiprocessing, "get_context", lambda _: context)


def results(folder: Path) -> dict[str, dict[str, bytes]]:
    """The bytes of all tensors, metrics and gradient flows, by run."""
    found: dict[str, dict[str, bytes]] = {}
    for config in sorted(folder.glob("*/seed-*/config.json")):
        run = config.parent
        latest = (run / "latest").read_text().strip()
        files = (run / latest / "tensors.safetensors", run / "metrics.jsonl")
        found[str(run.relative_to(folder))] = {
            file.name: file.read_bytes() for file in (*files, run / "gradient_flow.json")
        }
    return found


def measured(comparison: Comparison) -> list[object]:
    """All numbers of a comparison but times."""
    return [
        (run.seed, run.status, run.step, run.parameters, run.test, run.curve, run.gradient)
        for run in comparison.runs
    ]


def test_every_model_with_every_seed(tmp_path) -> None:
    comparison = compare(TINY, tmp_path / "out")
    assert [(m.label, [r.seed for r in m.runs]) for m in comparison.models] == [
        ("rnn:hidden=3", [0, 1]),
        ("lstm:hidden=3", [0, 1]),
    ]
    assert all(run.step == 6 and run.gradient is not None for run in comparison.runs)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "compare.json",
        "lock",
        "lstm-hidden-3",
        "report.html",
        "rnn-hidden-3",
    ]
    study = json.loads((tmp_path / "out" / "compare.json").read_text())
    assert study["schema_version"] == 1
    assert study["request"]["models"] == ["rnn:hidden=3", "lstm:hidden=3"]
    assert study["command"] == (
        f"throughtime compare {TASK} --models rnn:hidden=3,lstm:hidden=3 --seeds 2 --steps 6 "
        f"--jobs 1 --out {tmp_path / 'out'}"
    )
    # Seeds differ, and so do models.
    assert len({run["tensors.safetensors"] for run in results(tmp_path / "out").values()}) == 4


def test_second_call_trains_nothing(tmp_path) -> None:
    first = compare(TINY, tmp_path)
    before = {f: f.stat().st_mtime_ns for f in tmp_path.glob("*/seed-*/**/*")}
    events: list[StudyEvent] = []
    second = compare(TINY, tmp_path, events.append)
    assert measured(second) == measured(first)
    assert {f: f.stat().st_mtime_ns for f in tmp_path.glob("*/seed-*/**/*")} == before
    kinds = {type(event.event).__name__ for event in events}
    assert kinds == {"Planned", "Finished", "Done"}
    assert sum(isinstance(event.event, Done) for event in events) == 4


def test_more_seeds_and_models_join_what_is_there(tmp_path) -> None:
    compare(TINY, tmp_path)
    before = results(tmp_path)
    more = CompareRequest(TASK, (*TINY.models, "gru:hidden=2"), seeds=3, steps=6, jobs=1)
    started = []

    def watch(event: StudyEvent) -> None:
        if isinstance(event.event, Started):
            started.append((event.label, event.seed))

    comparison = compare(more, tmp_path, watch)
    assert len(comparison.runs) == 9
    assert sorted(started) == [
        ("gru:hidden=2", 0),
        ("gru:hidden=2", 1),
        ("gru:hidden=2", 2),
        ("lstm:hidden=3", 2),
        ("rnn:hidden=3", 2),
    ]
    after = results(tmp_path)
    assert {run: after[run] for run in before} == before


def test_interrupted_run_goes_on_to_the_same_bits(tmp_path, monkeypatch) -> None:
    """Ctrl-C in the middle of the second run."""
    monkeypatch.setattr(run_module, "PROGRESS_SECONDS", 0.0)
    request = CompareRequest(TASK, TINY.models, seeds=1, steps=20, jobs=1)
    compare(request, tmp_path / "whole")

    def press(event: StudyEvent) -> None:
        if event.label == "lstm:hidden=3" and isinstance(event.event, Progress):
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(RunInterrupted, match=r"interrupted with 1 of 2 runs done\. All is saved"):
        compare(request, tmp_path / "halves", press)
    started: list[int] = []

    def watch(event: StudyEvent) -> None:
        if isinstance(event.event, Started):
            started.append(event.event.step)

    compare(request, tmp_path / "halves", watch)
    assert len(started) == 1
    assert started[0] > 0
    assert results(tmp_path / "halves") == results(tmp_path / "whole")


def test_processes_side_by_side_give_the_same_results(tmp_path) -> None:
    """With as many threads each; every run once; all events reach the observer."""
    serial = compare(TINY, tmp_path / "serial")
    events: list[StudyEvent] = []
    request = CompareRequest(TASK, TINY.models, seeds=2, steps=6, jobs=2)
    parallel = compare(request, tmp_path / "parallel", events.append)
    assert measured(parallel) == measured(serial)
    assert results(tmp_path / "parallel") == results(tmp_path / "serial")
    runs = {(event.label, event.seed) for event in events}
    assert runs == {(model, seed) for model in TINY.models for seed in range(2)}
    for run in runs:
        mine = [event.event for event in events if (event.label, event.seed) == run]
        assert isinstance(mine[0], Planned)
        assert sum(isinstance(event, Started) for event in mine) == 1
        assert isinstance(mine[-1], Done)


def test_failure_in_a_worker_is_the_study_s(tmp_path, warm_workers) -> None:
    """A file where a run's folder should be."""
    (tmp_path / "rnn-hidden-3").write_text("in the way")
    request = CompareRequest(TASK, TINY.models, seeds=1, steps=6, jobs=2)
    with pytest.raises(RunWriteError, match=r"cannot write .*rnn-hidden-3"):
        compare(request, tmp_path)


def test_worker_that_dies_is_an_error(tmp_path, warm_workers) -> None:
    request = CompareRequest(TASK, TINY.models, seeds=1, steps=10**6, jobs=2)

    def kill_a_worker(event: StudyEvent) -> None:
        workers = multiprocessing.active_children()
        if isinstance(event.event, Progress) and len(workers) == 2:
            workers[0].kill()

    with pytest.raises(RunError, match=r"a worker process died.*goes on from the last"):
        compare(request, tmp_path, kill_a_worker)


@contextlib.contextmanager
def study_process(request: CompareRequest, out: Path) -> Iterator[multiprocessing.Process]:
    """A comparison in a process of its own that two workers serve."""
    arguments = (warm.call, compare_function, request, out)
    process = warm.context().Process(target=arguments[0], args=arguments[1:])
    process.start()
    try:
        yield process
    finally:
        process.kill()
        process.join()


def wait_for(condition, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def test_workers_end_with_a_killed_study(tmp_path) -> None:
    """SIGKILL to the study alone: its workers give up their runs, which others can then take."""
    out = tmp_path / "out"
    request = CompareRequest(TASK, ("rnn", "gru"), seeds=1, steps=10**7, jobs=2)
    with study_process(request, out) as process:
        wait_for(lambda: len(list(out.glob("*/seed-0/latest"))) == 2)
        process.kill()
    for folder in out.glob("*/seed-0"):

        def free(folder: Path = folder) -> bool:
            try:
                with RunFolder(folder).locked():
                    return True
            except RunError:
                return False

        wait_for(free, 20)


def test_run_that_another_process_writes_is_waited_for(tmp_path, monkeypatch) -> None:
    """The others come first; the locked one is picked up once it is free."""
    monkeypatch.setattr(MODULE, "_RETRY_SECONDS", 0.05)
    order: list[tuple[str, int]] = []
    lock = RunFolder(tmp_path / "rnn-hidden-3" / "seed-0").locked()
    lock.__enter__()
    released = False

    def watch(event: StudyEvent) -> None:
        nonlocal released
        if isinstance(event.event, Waiting) and len(order) == 3 and not released:
            released = True
            lock.__exit__(None, None, None)
        if isinstance(event.event, Done):
            order.append((event.label, event.seed))

    compare(TINY, tmp_path, watch)
    assert released
    assert order[-1] == ("rnn:hidden=3", 0)
    assert len(order) == 4


def test_diverged_run_is_a_result(tmp_path) -> None:
    request = CompareRequest(TASK, ("irnn:scale=1e30", "rnn:hidden=2"), seeds=1, steps=4, jobs=1)
    comparison = compare(request, tmp_path)
    diverged, sound = comparison.runs
    assert diverged.status == "diverged"
    assert (diverged.test, diverged.gradient) == (None, None)
    assert sound.status == "completed"
    page = (tmp_path / "report.html").read_text()
    assert "1 of 1 runs of irnn:scale=1e30 diverged" in page


def test_matched_parameters_are_trained(tmp_path) -> None:
    request = CompareRequest(
        TASK, ("lstm:hidden=8", "rnn"), seeds=1, steps=2, jobs=1, match_parameters=True
    )
    comparison = compare(request, tmp_path)
    lstm, rnn = comparison.models
    assert rnn.spec == "rnn:hidden=17"
    assert (lstm.runs[0].parameters, rnn.runs[0].parameters) == (666, 639)
    assert rnn.runs[0].config["model"] == "rnn:hidden=17"


def test_other_settings_join_what_is_there(tmp_path) -> None:
    """More steps, another batch size, one model, more seeds: all add to one folder and report."""
    request = CompareRequest(TASK, ("rnn:hidden=2", "gru:hidden=2"), seeds=1, steps=6, jobs=1)
    compare(request, tmp_path)
    first = results(tmp_path)
    changes: list[dict[str, object]] = [
        {"steps": 7},
        {"batch_size": 16},
        {"models": ("gru:hidden=2",)},
        {"seeds": 2},
    ]
    started: list[tuple[str, int]] = []

    def watch(event: StudyEvent) -> None:
        if isinstance(event.event, Started):
            started.append((event.label, event.seed))

    counts = []
    for change in changes:
        started.clear()
        comparison = compare(dataclasses.replace(request, **change), tmp_path, watch)
        counts.append((len(started), len(comparison.runs)))
    assert counts == [(2, 4), (2, 6), (0, 6), (2, 8)]
    after = results(tmp_path)
    assert {run: after[run] for run in first} == first
    assert [model.label for model in comparison.models] == [
        "rnn:hidden=2",
        "gru:hidden=2",
        "rnn:hidden=2, steps=7",
        "gru:hidden=2, steps=7",
        "rnn:hidden=2, batch_size=16",
        "gru:hidden=2, batch_size=16",
    ]
    assert [len(model.runs) for model in comparison.models] == [2, 2, 1, 1, 1, 1]
    assert [model.asked for model in comparison.models] == [True, True, False, False, False, False]
    assert comparison.differing == ("steps", "batch_size", "learning_rate")
    assert len(comparison.commands) == 5
    assert sorted(p.name for p in tmp_path.iterdir() if p.is_dir()) == [
        "gru-hidden-2",
        "gru-hidden-2-batch_size-16",
        "gru-hidden-2-steps-7",
        "rnn-hidden-2",
        "rnn-hidden-2-batch_size-16",
        "rnn-hidden-2-steps-7",
    ]


def test_folder_of_an_earlier_version_is_gone_on_with(tmp_path) -> None:
    """compare.json had neither configurations nor what was asked last."""
    before = compare(TINY, tmp_path)
    file = tmp_path / "compare.json"
    study = json.loads(file.read_text())
    for entry in study["models"]:
        del entry["configuration"]
    del study["asked"], study["commands"]
    file.write_text(json.dumps({**study, "seeds": [0, 1]}))
    assert measured(read_comparison(tmp_path)) == measured(before)
    more = compare(dataclasses.replace(TINY, steps=7, seeds=1), tmp_path)
    assert len(more.runs) == 6
    assert [m.label for m in more.models][::2] == ["rnn:hidden=3", "rnn:hidden=3, steps=7"]


def test_runs_of_other_threads_are_found(tmp_path, monkeypatch) -> None:
    """Cores are shared otherwise on another day; the runs are the same."""
    first = compare(TINY, tmp_path)
    monkeypatch.setattr(plan, "_share_cores", lambda request: (request.jobs, 2))
    assert measured(compare(TINY, tmp_path)) == measured(first)


def test_variants_beside_the_plain_model(tmp_path) -> None:
    request = CompareRequest(TASK, ("rnn:hidden=2",), seeds=1, steps=2, jobs=1)
    variants = (Variant("plain", {}), Variant("clipped", {"clip_norm": 0.5}))
    compare(dataclasses.replace(request, variants=variants), tmp_path)
    sgd = dataclasses.replace(request, variants=(Variant("sgd", {"optimizer": "SGD"}),))
    assert [model.label for model in compare(sgd, tmp_path).models] == [
        "rnn:hidden=2, plain",
        "rnn:hidden=2, clipped",
        "rnn:hidden=2, optimizer=SGD",
    ]


def test_folder_of_another_task(tmp_path) -> None:
    compare(TINY, tmp_path)
    before = results(tmp_path)
    with pytest.raises(RunMismatchError, match="holds a comparison on another task: got latch"):
        compare(dataclasses.replace(TINY, task="latch"), tmp_path)
    assert results(tmp_path) == before


def test_runs_that_are_not_finished_are_counted(tmp_path) -> None:
    compare(TINY, tmp_path)
    (tmp_path / "lstm-hidden-3" / "seed-1" / "result.json").unlink()
    found = read_comparison(tmp_path)
    assert (len(found.runs), found.unfinished) == (3, 1)
    for result in tmp_path.glob("*/*/result.json"):
        result.unlink()
    with pytest.raises(RunError, match="holds no finished run: expected at least one"):
        read_comparison(tmp_path)


def test_folder_that_cannot_be_made(tmp_path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunWriteError, match=r"cannot write .*file"):
        compare(TINY, tmp_path / "file" / "out")


def test_wrong_request_writes_nothing(tmp_path) -> None:
    request = CompareRequest(TASK, ("rnn", "lsmt"))
    with pytest.raises(UnknownNameError, match="lsmt"):
        compare(request, tmp_path / "out")
    request = CompareRequest(TASK, ("rnn", "lstm:layers=2"), settings={"learner": "rflo"})
    with pytest.raises(LearnerRefusalError, match="expected a gated cell"):
        compare(request, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_events_are_those_of_training(tmp_path) -> None:
    events: list[StudyEvent] = []
    compare(
        CompareRequest(TASK, ("rnn:hidden=2",), seeds=1, steps=3, jobs=1), tmp_path, events.append
    )
    names = [type(event.event).__name__ for event in events]
    assert names[:2] == ["Planned", "Started"]
    assert names[-2:] == ["Finished", "Done"]
    assert {"Progress", "Evaluated"} <= set(names)
    assert events[0].event == Planned(3)
