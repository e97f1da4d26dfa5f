"""Training by curriculum: the level rises, its sequences are drawn, and a killed run goes on."""

import json
from pathlib import Path

import pytest
import torch
from training.runs import run
from training.tiny import latest, trained

from throughtime.tasks import CopyBits
from throughtime.training import RunConfig, read_json, train
from throughtime.training.checkpoint import RunState
from throughtime.training.curriculum import Curriculum

LEVELLED: dict[str, object] = {
    "task": "copy-bits:bits=2,largest=6,start=1,threshold=0.72,patience=3",
    "model": "gru:hidden=4,engine=eager",
    "steps": 24,
    "batch_size": 4,
    "evaluate_every": 12,
    "checkpoint_every": 5,
    "log_every": 1,
}


def rows(folder: Path) -> list[dict[str, float]]:
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [row for row in map(json.loads, lines) if row["kind"] == "train"]


def test_levels_follow_from_the_losses(tmp_path: Path) -> None:
    result = train(RunConfig.from_json(LEVELLED), tmp_path)
    levels = CopyBits(largest=6, start=1, threshold=0.72, patience=3).levels
    level, losses, found = 1, [], rows(tmp_path)
    for row in found:
        losses.append(row["loss"])
        after = levels.after(level, losses)
        level, losses = after, losses if after == level else []
        assert row["level"] == level
    assert [row["level"] for row in found][-1] == 6
    assert result.test["level"] == 6
    assert result.metrics[-1].name == "level"


def test_updates_see_sequences_of_their_level(tmp_path: Path, monkeypatch) -> None:
    seen: list[torch.Tensor] = []
    score = CopyBits.score

    def watched(task, model, batch, *, state=None, step=None):
        if step is not None:
            seen.append(batch.inputs)
        return score(task, model, batch, state=state, step=step)

    monkeypatch.setattr(CopyBits, "score", watched)
    train(RunConfig.from_json(LEVELLED), tmp_path)
    levels = [1, *(int(row["level"]) for row in rows(tmp_path))][:-1]
    for step, (inputs, level) in enumerate(zip(seen, levels, strict=True)):
        task = CopyBits(bits=2, largest=level)
        expected = next(task.batches("training", 4, seed=0, start=step))
        assert torch.equal(inputs, expected.inputs)


@pytest.mark.parametrize("moment", [9, 20])
def test_a_killed_run_goes_on_to_the_same_bits(tmp_path: Path, moment: int) -> None:
    assert run(LEVELLED, tmp_path / "whole") == "done"
    assert run(LEVELLED, tmp_path / "killed", kill_at_write=moment) == "killed"
    assert run(LEVELLED, tmp_path / "killed") == "done"
    assert trained(tmp_path / "killed") == trained(tmp_path / "whole")
    states = [read_json(latest(tmp_path / name) / "state.json") for name in ("killed", "whole")]
    assert states[0]["run"]["level_losses"] == states[1]["run"]["level_losses"]
    assert states[0]["run"]["level"] == 6


def test_held_out_data_have_all_levels() -> None:
    task = CopyBits(bits=2, largest=6, start=1)
    plain = CopyBits(bits=2, largest=6)
    pairs = zip(task.batches("validation", 128), plain.batches("validation", 128), strict=True)
    assert all(torch.equal(a.inputs, b.inputs) for a, b in pairs)


def test_a_task_without_levels_stays_as_it_is() -> None:
    task = CopyBits(bits=2, largest=6)
    curriculum, state = Curriculum(task), RunState()
    assert (curriculum.start, curriculum.metrics, curriculum.level(state)) == (0, (), {})
    assert curriculum.task(state) is task
    assert not curriculum.rise(state, 0.0)
    assert state == RunState()
