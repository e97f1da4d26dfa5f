"""A run that is killed at any moment goes on to the same bits."""

import random
from pathlib import Path

import pytest
from training.runs import Run, run
from training.tiny import TINY, latest, trained

from throughtime.core.errors import RunLockedError
from throughtime.training import RunConfig, RunFolder, read_json, train
from throughtime.training.checkpoint import load_checkpoint

SMALL = {**TINY, "steps": 3, "evaluate_every": 2, "checkpoint_every": 1}
LONG = {**TINY, "steps": 80, "evaluate_every": 40, "checkpoint_every": 6, "log_every": 7}


def run_state(folder: Path) -> dict[str, object]:
    state = read_json(latest(folder) / "state.json")["run"]
    return {name: value for name, value in state.items() if name != "seconds"}


def outcome(folder: Path) -> dict[str, object]:
    result = read_json(folder / "result.json")
    return {name: value for name, value in result.items() if name != "seconds"}


def assert_whole(folder: Path) -> None:
    """What has its name can be read, at whatever moment."""
    for path in folder.glob("checkpoint-*"):
        if path.suffix != ".tmp":
            load_checkpoint(path)
    for path in folder.glob("*.json"):
        read_json(path)


def contents(folder: Path) -> frozenset[tuple[str, bytes | None]]:
    """Every file and folder of a run."""
    return frozenset(
        (str(path.relative_to(folder)), path.read_bytes() if path.is_file() else None)
        for path in folder.rglob("*")
    )


def test_ended_before_every_write(tmp_path: Path) -> None:
    """What is there before each opening, renaming and removing of a file of one run goes on.

    A run that is killed leaves just that: see the test below, whose runs are.
    """
    whole, copies = tmp_path / "whole", tmp_path / "copies"
    copies.mkdir()
    assert run(SMALL, whole, copies=str(copies)) == "done"
    assert len(list(copies.iterdir())) > 30
    distinct = {contents(folder): folder for folder in copies.iterdir()}
    assert len(distinct) > 20
    for folder in distinct.values():
        assert_whole(folder)
        train(RunConfig.from_json(SMALL), folder)
        assert trained(folder) == trained(whole), f"ended before write {folder.name}"
        assert run_state(folder) == run_state(whole)
        assert outcome(folder) == outcome(whole)
        assert {p.name for p in folder.iterdir()} == {p.name for p in whole.iterdir()}


@pytest.mark.parametrize(
    "optimizer",
    [
        {"optimizer": "Adam"},
        {"optimizer": "SGD", "optimizer_options": {"momentum": 0.9, "nesterov": True}},
        {"optimizer": "Adam", "schedule": "cosine", "warmup_steps": 30, "clip_value": 0.01},
    ],
    ids=["Adam", "SGD-momentum", "Adam-cosine"],
)
def test_killed_again_and_again(tmp_path: Path, optimizer: dict[str, object]) -> None:
    """SIGKILL at random moments, again and again, in one run."""
    config = {**LONG, **optimizer}
    assert run(config, tmp_path / "whole") == "done"
    moments = random.Random(0)
    for _ in range(4):
        moment = {"kill_at_write": moments.randint(5, 30), "kill_delay": moments.uniform(0, 0.01)}
        assert run(config, tmp_path / "killed", **moment) == "killed"
    assert run(config, tmp_path / "killed") == "done"
    assert trained(tmp_path / "killed") == trained(tmp_path / "whole")
    assert outcome(tmp_path / "killed") == outcome(tmp_path / "whole")


def test_two_processes_never_write_one_run(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    config = {**LONG, "steps": 10**6}
    writing = Run(config, folder, kill_when=str(tmp_path / "stop"))
    while not (folder / "latest").exists():
        pass
    with pytest.raises(RunLockedError, match=r"run is being written by another process\. Wait"):
        train(RunConfig.from_json(config), folder)
    (tmp_path / "stop").touch()
    assert writing.end() == "killed"
    with RunFolder(folder).locked():
        pass  # the lock died with it


def test_a_file_that_cannot_grow(tmp_path: Path) -> None:
    """The system refuses a write half way; nothing half written is left, and the run goes on."""
    folder = tmp_path / "run"
    said = run(SMALL, folder, file_size_limit=2000)
    assert said.startswith(f"RunWriteError: cannot write {folder}/checkpoint-1.tmp/")
    assert "got File too large. Raise the limit on file sizes" in said
    assert {p.name for p in folder.iterdir()} == {"config.json", "metrics.jsonl", "lock"}
    assert run(SMALL, folder) == "done"
    assert run(SMALL, tmp_path / "whole") == "done"
    assert trained(folder) == trained(tmp_path / "whole")
