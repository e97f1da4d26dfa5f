"""A folder of another configuration, environment or engine, and names that do not exist."""

import json
import re
import signal
from pathlib import Path

import pytest
import torch
from training.tiny import latest, tiny, trained, weights

import throughtime as tt
from throughtime.core.errors import ConfigurationError, RunInterrupted, RunMismatchError
from throughtime.training import Event, Progress, RunConfig, read_json, train
from throughtime.training import run as run_module


@pytest.fixture
def stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run with a checkpoint at 8, of 12 steps."""

    def press(event: Event) -> None:
        if isinstance(event, Progress) and event.step == 8:
            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(run_module, "PROGRESS_SECONDS", 0.0)
        with pytest.raises(RunInterrupted):
            train(tiny(), tmp_path / "run", observer=press)
    return tmp_path / "run"


def elsewhere(file: Path, **values: object) -> None:
    """Say that it was written in another environment."""
    document = json.loads(file.read_text())
    document["environment"].update(values)
    document.pop("sha256", None)  # as earlier versions wrote it
    file.write_text(json.dumps(document))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 1}, "got seed=1, expected seed=0. Choose another folder, or allow the mismatch"),
        ({"threads": 2}, "got threads=2, expected threads=1"),
        (
            {"steps": 13, "optimizer_options": {"eps": 0.1}},
            r"got steps=13, optimizer_options=\{'eps': 0.1\}, expected steps=12, optimizer_options",
        ),
    ],
)
def test_another_configuration(stopped: Path, change: dict[str, object], message: str) -> None:
    with pytest.raises(RunMismatchError, match=f"run belongs to another configuration: {message}"):
        train(tiny(**change), stopped)
    result = train(tiny(**change), stopped, allow_mismatch=True)
    assert result.step == change.get("steps", 12)
    assert RunConfig.from_json(read_json(stopped / "config.json")) == tiny(**change)
    with pytest.raises(RunMismatchError, match=r"expected .*Choose another folder\.$"):
        train(tiny(), stopped, allow_mismatch=True)


@pytest.mark.parametrize("change", [{"model": "gru"}, {"optimizer": "SGD"}])
def test_another_model_cannot_go_on(stopped: Path, change: dict[str, object]) -> None:
    with pytest.raises(RunMismatchError, match=r"expected .*Choose another folder\.$"):
        train(tiny(**change), stopped, allow_mismatch=True)


def test_options_of_the_new_configuration_hold(stopped: Path) -> None:
    """Not those that the optimiser's stored state brings along."""
    config = tiny(optimizer_options={"betas": [0.0, 0.0], "eps": 1e30}, learning_rate=1.0)
    before = weights(stopped)
    train(config, stopped, allow_mismatch=True)
    assert all(torch.equal(value, before[name]) for name, value in weights(stopped).items())


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"torch": "1.0"},
            f"got torch {re.escape(torch.__version__)} instead of 1.0, expected the same",
        ),
        ({"numpy": "1", "device": "abacus"}, "got numpy .* instead of 1, device cpu .* of abacus"),
    ],
)
def test_another_environment(stopped: Path, values: dict[str, str], message: str) -> None:
    elsewhere(latest(stopped) / "state.json", **values)
    with pytest.raises(
        RunMismatchError, match=f"run was written in another environment: {message}"
    ):
        train(tiny(), stopped)
    result = train(tiny(), stopped, allow_mismatch=True)
    elsewhere(stopped / "result.json", **values)
    with pytest.raises(RunMismatchError, match=message):
        train(tiny(), stopped)
    assert train(tiny(), stopped, allow_mismatch=True).step == result.step


def test_other_engines(stopped: Path) -> None:
    first = tt.LSTM(3, 4).explain().engine
    elsewhere(latest(stopped) / "state.json", engines=["abacus"])
    before = trained(stopped)
    message = f"run was trained by other engines: got {first}, expected abacus. Choose another"
    with pytest.raises(RunMismatchError, match=message):
        train(tiny(), stopped)
    assert trained(stopped) == before
    result = train(tiny(), stopped, allow_mismatch=True)
    assert result.environment.engines == sorted(["abacus", first])


def test_data_dir_for_a_task_without_files(tmp_path: Path) -> None:
    message = "task 'digits' reads no files: got data_dir='there'. Leave it out."
    with pytest.raises(ConfigurationError, match=message):
        train(tiny(data_dir="there"), tmp_path)
    config = tiny(task="mnist:data_dir=here", data_dir="there")
    with pytest.raises(ConfigurationError, match="names a data_dir: got another one in the run"):
        train(config, tmp_path / "mnist")


def test_names_are_checked_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigurationError, match=r"unknown task: got 'digit'.*Did you mean 'digits"
    ):
        train(tiny(task="digit"), tmp_path / "run")
    with pytest.raises(ConfigurationError, match=r"unknown model: got 'ltsm'.*Did you mean"):
        train(tiny(model="ltsm"), tmp_path / "run")
    assert not (tmp_path / "run" / "config.json").exists()
