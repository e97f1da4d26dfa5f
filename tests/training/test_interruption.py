"""Ctrl-C, and what else stops a run from within: it goes on to the same bits."""

import dataclasses
import signal
import threading
from pathlib import Path

import pytest
from training.tiny import latest, same_weights, tiny, trained

from throughtime.core.errors import RunInterrupted
from throughtime.tasks.pixels import PixelSequences
from throughtime.training import Evaluated, Event, Progress, Started, train
from throughtime.training import run as run_module


@pytest.mark.parametrize("at", [1, 6, 7, 12])
def test_ctrl_c(at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_module, "PROGRESS_SECONDS", 0.0)
    handler = signal.getsignal(signal.SIGINT)

    def press(event: Event) -> None:
        if isinstance(event, Progress) and event.step == at:
            signal.raise_signal(signal.SIGINT)

    message = (
        f"stopped was interrupted: got {at} of 12 steps. "
        "All is saved: the same call or command goes on from there."
    )
    with pytest.raises(RunInterrupted, match=message):
        train(tiny(), tmp_path / "stopped", observer=press)
    assert signal.getsignal(signal.SIGINT) is handler
    assert latest(tmp_path / "stopped").name == f"checkpoint-{at}"
    events: list[Event] = []
    train(tiny(), tmp_path / "stopped", observer=events.append)
    assert isinstance(events[0], Started)
    assert events[0].step == at
    train(tiny(), tmp_path / "whole")
    assert trained(tmp_path / "stopped")[1] == trained(tmp_path / "whole")[1]
    assert same_weights(tmp_path / "stopped", tmp_path / "whole")


def test_ctrl_c_as_it_starts(tmp_path: Path) -> None:
    """Or the study's word to stop, which a worker hears at an event: it is not given twice."""

    def press(event: Event) -> None:
        if isinstance(event, Started):
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(RunInterrupted, match="got 0 of 12 steps"):
        train(tiny(), tmp_path / "stopped", observer=press)
    assert latest(tmp_path / "stopped").name == "checkpoint-0"
    train(tiny(), tmp_path / "stopped")
    train(tiny(), tmp_path / "whole")
    assert trained(tmp_path / "stopped")[1] == trained(tmp_path / "whole")[1]
    assert same_weights(tmp_path / "stopped", tmp_path / "whole")


@pytest.mark.parametrize("split", ["validation", "test"])
def test_ctrl_c_while_evaluating(
    split: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = PixelSequences.batches

    def pressed(task: PixelSequences, asked: str, size: int, **more: int) -> object:
        for batch in original(task, asked, size, **more):
            if asked == split:
                signal.raise_signal(signal.SIGINT)
            yield batch

    with monkeypatch.context() as patch:
        patch.setattr(PixelSequences, "batches", pressed)
        with pytest.raises(RunInterrupted, match="All is saved"):
            train(tiny(), tmp_path / "stopped")
    result = train(tiny(), tmp_path / "stopped")
    whole = train(tiny(), tmp_path / "whole")
    assert trained(tmp_path / "stopped")[1] == trained(tmp_path / "whole")[1]
    assert same_weights(tmp_path / "stopped", tmp_path / "whole")
    assert dataclasses.replace(result, seconds=whole.seconds) == whole


def test_second_ctrl_c_does_not_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_module, "PROGRESS_SECONDS", 0.0)

    def press_twice(event: Event) -> None:
        if isinstance(event, Progress) and event.step == 7:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train(tiny(), tmp_path / "stopped", observer=press_twice)
    assert latest(tmp_path / "stopped").name == "checkpoint-4"
    train(tiny(), tmp_path / "stopped")
    train(tiny(), tmp_path / "whole")
    assert trained(tmp_path / "stopped") == trained(tmp_path / "whole")


def test_in_another_thread(tmp_path: Path) -> None:
    """Where no signal handler may be set."""
    results = []
    thread = threading.Thread(target=lambda: results.append(train(tiny(), tmp_path / "thread")))
    thread.start()
    thread.join()
    train(tiny(), tmp_path / "main")
    assert trained(tmp_path / "thread") == trained(tmp_path / "main")


def test_observer_that_fails(tmp_path: Path) -> None:
    def fail(event: Event) -> None:
        if isinstance(event, Evaluated):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        train(tiny(), tmp_path / "run", observer=fail)
    train(tiny(), tmp_path / "run")
    train(tiny(), tmp_path / "whole")
    assert trained(tmp_path / "run") == trained(tmp_path / "whole")
