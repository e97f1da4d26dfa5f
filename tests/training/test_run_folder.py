"""Files that are whole or absent, one writer a run, and folders that are no runs."""

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from training.tiny import TINY, tiny, trained

from throughtime.core.errors import (
    RunError,
    RunLockedError,
    RunVersionError,
    RunWriteError,
)
from throughtime.training import RunFolder, read_json, read_metrics, train, write_json
from throughtime.training.run_folder import MetricsFile


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, bytes]:
    """What the tiny run is, undisturbed."""
    folder = tmp_path_factory.mktemp("whole")
    train(tiny(), folder)
    return trained(folder)


def test_json_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"numbers": [0.1 + 0.2, 5e-324, 2**70], "text": "ü", "none": None})
    assert read_json(path) == {"numbers": [0.1 + 0.2, 5e-324, 2**70], "text": "ü", "none": None}
    assert json.loads(path.read_text(encoding="utf-8"))["schema_version"] == 1
    assert os.listdir(tmp_path) == ["a.json"]


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_failed_write_leaves_the_old_file(
    failing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"old": 1})

    def fail(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, failing, fail)
        message = r"cannot write .*a\.json: got No space left on device\. Free some space"
        with pytest.raises(RunWriteError, match=message):
            write_json(path, {"new": 2})
    assert read_json(path) == {"old": 1}
    assert os.listdir(tmp_path) == ["a.json"]


def message_of(call: Callable[[], object]) -> str:
    """Of the error in writing that a call raises, or nothing."""
    try:
        call()
    except RunWriteError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_full_disk_at_any_write(call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each flush and each renaming of a run fails in turn; then there is space again."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # no power fails here
    short = tiny(steps=3, evaluate_every=2, checkpoint_every=2)
    train(short, tmp_path / "whole")
    original = getattr(os, call)
    for failing in range(1, 1000):
        folder = tmp_path / str(failing)
        left = failing

        def fail(*arguments: object) -> None:
            nonlocal left
            left -= 1
            if left == 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            original(*arguments)

        with monkeypatch.context() as patch:
            patch.setattr(os, call, fail)
            ended = message_of(lambda folder=folder: train(short, folder))
        if ended == "":
            break
        assert "No space left on device. Free some space" in ended
        train(short, folder)
        assert trained(folder) == trained(tmp_path / "whole"), f"failed at {call} {failing}"
    assert failing > 5


@pytest.mark.parametrize("content", [b"", b"{", b'{"schema_version": 1', b"[1]", b"{}", b"\xff"])
def test_config_that_is_not_whole(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "config.json").write_bytes(content)
    message = r"config.json is not whole: got \d+ bytes \(\w+: .*\), expected a JSON object with a "
    with pytest.raises(RunError, match=message):
        train(tiny(), tmp_path)


@pytest.mark.parametrize("name", ["config.json", "result.json"])
def test_folder_of_another_version(tmp_path: Path, name: str) -> None:
    train(tiny(steps=1), tmp_path)
    path = tmp_path / name
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema_version": 0}))
    message = (
        f"{name} was written in another version of the format: got schema_version 0, expected 1. "
        "Use the version of throughtime that wrote it, or choose another folder."
    )
    with pytest.raises(RunVersionError, match=message):
        train(tiny(steps=1), tmp_path)


def test_result_that_is_not_whole(tmp_path: Path) -> None:
    train(tiny(steps=1), tmp_path)
    path = tmp_path / "result.json"
    content = path.read_bytes()
    path.write_bytes(content[:100])
    with pytest.raises(RunError, match=r"result.json is not whole: got 100 bytes \(JSONDecodeErr"):
        train(tiny(steps=1), tmp_path)
    document = json.loads(content)
    del document["seconds"]
    path.write_text(json.dumps(document))
    with pytest.raises(RunError, match=r"is not a result: got TypeError: seconds is missing"):
        train(tiny(steps=1), tmp_path)


def test_path_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunWriteError, match=r"cannot write .*file: got File exists. Choose a path"):
        train(tiny(), tmp_path / "file")
    with pytest.raises(RunWriteError, match=r"got Not a directory. Choose a path whose parents"):
        train(tiny(), tmp_path / "file" / "run")


def test_folder_may_not_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As for anyone but the administrator, who may run the tests."""

    def refuse(path: Path, *arguments: object, **options: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "mkdir", refuse)
    message = r"cannot write .*run: got Permission denied. Choose a folder that you may write to."
    with pytest.raises(RunWriteError, match=message):
        train(tiny(), tmp_path / "run")


def test_lock_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "lock").mkdir()
    message = "cannot lock .*lock: got .* Choose a folder that you may write to, on a file system"
    with pytest.raises(RunWriteError, match=message):
        train(tiny(), tmp_path)


def test_lock(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    with folder.locked():
        message = "is being written by another process. Wait for it to end, or choose another"
        with pytest.raises(RunLockedError, match=message):
            train(tiny(), tmp_path)
    train(tiny(steps=1), tmp_path)
    with folder.locked():
        assert train(tiny(steps=1), tmp_path).step == 1, "a finished run is read all the same"


@pytest.mark.parametrize("name", ["metrics.jsonl", "latest", "result.json"])
def test_folder_of_something_else(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")
    message = f"holds {name} but no config.json: expected a run, or none. Choose another folder."
    with pytest.raises(RunWriteError, match=message):
        train(tiny(), tmp_path)
    assert (tmp_path / name).read_text() == "mine"


def test_checkpoints_of_another_program_are_kept(tmp_path: Path) -> None:
    (tmp_path / "checkpoint-500").mkdir()
    (tmp_path / "checkpoint-500" / "model.bin").write_text("mine")
    with pytest.raises(RunWriteError, match=r"holds checkpoint-500 but no config\.json"):
        train(tiny(), tmp_path)
    assert (tmp_path / "checkpoint-500" / "model.bin").read_text() == "mine"
    assert os.listdir(tmp_path) == ["checkpoint-500"], "not even a lock"


def test_folder_with_other_files_is_kept(tmp_path: Path) -> None:
    for name in ("notes.txt", "notes.tmp"):
        (tmp_path / name).write_text("mine")
    train(tiny(steps=1), tmp_path)
    for name in ("notes.txt", "notes.tmp"):
        assert (tmp_path / name).read_text() == "mine"


@pytest.fixture
def unfinished(tmp_path: Path) -> Path:
    """A run that lost its result: with checkpoints at 8 and 12."""
    train(tiny(), tmp_path)
    (tmp_path / "result.json").unlink()
    return tmp_path


def test_latest_and_the_one_before_are_kept(unfinished: Path) -> None:
    assert (unfinished / "latest").read_text() == "checkpoint-12\n"
    checkpoints = {p.name for p in unfinished.glob("checkpoint-*")}
    assert checkpoints == {"checkpoint-8", "checkpoint-12"}


@pytest.mark.parametrize("text", ["", "checkpoint-99", "../checkpoint-8", "checkpoint-8/..", "\0"])
def test_latest_names_nothing(unfinished: Path, text: str) -> None:
    (unfinished / "latest").write_text(text)
    message = r"latest names no checkpoint of this run: got .*, expected one of: checkpoint-8, che"
    with pytest.raises(RunError, match=message):
        train(tiny(), unfinished)


def test_damaged_checkpoint_and_its_remedy(unfinished: Path, whole: tuple[bytes, bytes]) -> None:
    """The message's advice works: from the checkpoint before, to the same bits."""
    file = unfinished / "checkpoint-12" / "tensors.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    message = "checkpoint-12 is damaged: .*Write the name of an earlier checkpoint"
    with pytest.raises(RunError, match=message):
        train(tiny(), unfinished)
    (unfinished / "latest").write_text("checkpoint-8")
    train(tiny(), unfinished)
    assert trained(unfinished) == whole


def test_checkpoint_of_another_model(unfinished: Path) -> None:
    config = {**TINY, "model": "lstm:hidden=5,layers=2"}
    write_json(unfinished / "config.json", tiny(**config).to_json())
    with pytest.raises(RunError, match=r"checkpoint-12 does not fit model 'lstm:hidden=5,layers=2"):
        train(tiny(**config), unfinished)


def test_metrics_that_lost_rows(unfinished: Path) -> None:
    (unfinished / "metrics.jsonl").write_text("")
    message = r"has lost rows that were written before the checkpoint: got 0 bytes, expected at le"
    with pytest.raises(RunError, match=message):
        train(tiny(), unfinished)


def test_metrics_are_cut_back(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    metrics = MetricsFile(path)
    metrics.append({"step": 1})
    size = metrics.sync()
    metrics.append({"step": 2})
    metrics.close()
    metrics = MetricsFile(path, size)
    assert metrics.sync() == size
    metrics.append({"step": 3})
    metrics.close()
    assert read_metrics(tmp_path) == [{"step": 1}, {"step": 3}]


def test_reading_metrics_while_they_are_written(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1}\n{"ste')
    assert read_metrics(tmp_path) == [{"step": 1}]
    path.write_bytes(b'{"step": 1}\n{"ste\n')
    with pytest.raises(RunError, match=r"line 2 of .* is damaged: got .*, expected a JSON object"):
        read_metrics(tmp_path)
    with pytest.raises(RunError, match=r"cannot read .*metrics.jsonl: got No such file"):
        read_metrics(tmp_path / "none")
