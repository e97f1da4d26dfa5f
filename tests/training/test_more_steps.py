"""A run that is given more steps goes on from where it ended."""

from pathlib import Path

import pytest
from training.tiny import tiny, trained

from throughtime.core.errors import RunMismatchError
from throughtime.training import Event, Started, read_json, train


def outcome(folder: Path) -> dict[str, object]:
    return {name: v for name, v in read_json(folder / "result.json").items() if name != "seconds"}


@pytest.mark.parametrize("steps", [8, 6, 10])
def test_more_steps_end_in_the_same_bits(tmp_path: Path, steps: int) -> None:
    """Where the end was between two evaluations, two rows of metrics and two checkpoints, and where
    it was not: weights, optimiser, generators, metrics and result are those of one run."""
    train(tiny(), tmp_path / "whole")
    train(tiny(steps=steps), tmp_path / "run")
    started: list[int] = []

    def watch(event: Event) -> None:
        if isinstance(event, Started):
            started.append(event.step)

    result = train(tiny(), tmp_path / "run", observer=watch)
    assert started == [steps]
    assert result.rescheduled == ()
    assert trained(tmp_path / "run") == trained(tmp_path / "whole")
    assert outcome(tmp_path / "run") == outcome(tmp_path / "whole")
    assert train(tiny(), tmp_path / "run") == result


def test_schedule_that_depends_on_the_steps(tmp_path: Path) -> None:
    """The run goes on, and its result says that it differs, however often it is asked for."""
    train(tiny(schedule="cosine"), tmp_path / "whole")
    for steps in (4, 8):
        train(tiny(schedule="cosine", steps=steps), tmp_path / "run")
    result = train(tiny(schedule="cosine"), tmp_path / "run")
    assert (result.step, result.rescheduled) == (12, (4, 8))
    assert train(tiny(schedule="cosine"), tmp_path / "run") == result
    assert trained(tmp_path / "run") != trained(tmp_path / "whole")


def test_killed_between_the_files_of_a_change(tmp_path: Path) -> None:
    """The old result is gone before the new configuration is there."""
    train(tiny(), tmp_path / "whole")
    train(tiny(steps=8), tmp_path / "run")
    (tmp_path / "run" / "result.json").unlink()
    train(tiny(), tmp_path / "run")
    assert trained(tmp_path / "run") == trained(tmp_path / "whole")


def test_fewer_steps_than_done_are_refused(tmp_path: Path) -> None:
    train(tiny(), tmp_path)
    message = (
        "has done more steps: got steps=5, expected at least 12. "
        "Choose another folder for a shorter run."
    )
    with pytest.raises(RunMismatchError, match=message):
        train(tiny(steps=5), tmp_path)
    assert train(tiny(), tmp_path).step == 12
