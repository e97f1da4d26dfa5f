"""What a run does, and how it ends."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from tasks.drawing import training_batch
from torch import Tensor
from training.tiny import Scripted, latest, same_weights, tiny, trained, weights

import throughtime as tt
from throughtime.tasks import TASKS, SequenceBatch
from throughtime.training import (
    Divergence,
    Evaluated,
    Event,
    Finished,
    Progress,
    RunConfig,
    Started,
    evaluate,
    load_model,
    read_json,
    read_metrics,
    train,
)
from throughtime.training import run as run_module

pytestmark = pytest.mark.without_compiler


def script(monkeypatch: pytest.MonkeyPatch, task: Scripted) -> None:
    """Have runs train on this task, whatever their configuration says."""
    monkeypatch.setattr(run_module, "build_task", lambda config: task)


def by_hand(config: RunConfig) -> tuple[torch.nn.Module, list[float]]:
    """The run in six lines of plain torch: SGD, without clipping."""
    task = TASKS.build(config.task)
    torch.manual_seed(config.seed)
    from throughtime.models import build_model

    model = build_model(config.model, task.inputs, task.answers)
    optimizer = torch.optim.SGD(model.parameters(), lr=config.learning_rate)
    losses = []
    for step in range(config.steps):
        batch = training_batch(task, step, config.batch_size, config.seed)
        optimizer.zero_grad()
        loss = task.score(model, batch, step=step).loss
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return model, losses


@pytest.mark.parametrize("seed", [0, 3])
def test_a_run_is_plain_torch(tmp_path: Path, seed: int) -> None:
    """With dropout, and evaluations in between, which must not disturb it."""
    config = tiny(seed=seed, optimizer="SGD", learning_rate=0.1, clip_norm=None, log_every=1)
    threads = torch.get_num_threads()
    result = train(config, tmp_path)
    torch.set_num_threads(1)
    model, losses = by_hand(config)
    torch.set_num_threads(threads)
    stored = weights(tmp_path)
    assert {f"model.{name}" for name in model.state_dict()} == stored.keys()
    for name, value in model.state_dict().items():
        assert torch.equal(value, stored[f"model.{name}"])
    rows = read_metrics(tmp_path)
    assert [row["loss"] for row in rows if row["kind"] == "train"] == losses
    task = TASKS.build(config.task)
    validation = evaluate(model, task, task.batches("validation", 128))
    assert result.validation == validation
    assert rows[-1] == {"step": 12, "kind": "validation", **validation}
    assert result.test == evaluate(model, task, task.batches("test", 128))
    assert result.parameters == sum(p.numel() for p in model.parameters())


def test_result_on_disk(tmp_path: Path) -> None:
    result = train(tiny(), tmp_path)
    assert (result.status, result.step, result.diverged) == ("completed", 12, None)
    assert result.environment.engines == [tt.LSTM(3, 4).explain().engine]
    assert result.environment.threads == 1
    assert read_json(tmp_path / "result.json") == result.to_json()
    assert RunConfig.from_json(read_json(tmp_path / "config.json")) == tiny()
    rows = read_metrics(tmp_path)
    assert [(row["step"], row["kind"]) for row in rows] == [
        (5, "train"),
        (6, "validation"),
        (10, "train"),
        (12, "validation"),
        (12, "train"),
    ]
    assert rows[0].keys() == {
        "step",
        "kind",
        "loss",
        "gradient_norm",
        "clip_rate",
        "learning_rate",
    }
    losses, spans = read_metrics(tmp_path), [(0, 5), (5, 10), (10, 12)]
    train(tiny(log_every=1), tmp_path / "each")
    each = [r for r in read_metrics(tmp_path / "each") if r["kind"] == "train"]
    for row, (start, end) in zip(losses[::2], spans, strict=True):
        for name in ("loss", "gradient_norm", "clip_rate"):
            mean = sum(r[name] for r in each[start:end]) / (end - start)
            assert row[name] == pytest.approx(mean, rel=1e-12)


def test_finished_run_returns_its_result(tmp_path: Path) -> None:
    first = train(tiny(), tmp_path)
    files = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.name != "lock"}
    events: list[Event] = []
    assert train(tiny(), tmp_path, observer=events.append) == first
    assert events == [Finished(tmp_path, first)]
    assert {p: p.stat().st_mtime_ns for p in files} == files


def test_same_seed_same_bits_whatever_is_logged(tmp_path: Path) -> None:
    train(tiny(), tmp_path / "one")
    torch.manual_seed(99)
    train(tiny(), tmp_path / "two")
    assert trained(tmp_path / "one") == trained(tmp_path / "two")
    train(tiny(evaluate_every=1, checkpoint_every=5, log_every=3), tmp_path / "three")
    assert same_weights(tmp_path / "one", tmp_path / "three")
    train(tiny(seed=1), tmp_path / "four")
    assert not same_weights(tmp_path / "one", tmp_path / "four")


def test_events(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_module, "PROGRESS_SECONDS", 0.0)
    events: list[Event] = []
    result = train(tiny(log_every=1), tmp_path, observer=events.append)
    assert events[0] == Started(tmp_path, tiny(log_every=1), 0, result.parameters)
    assert events[-1] == Finished(tmp_path, result)
    rows = read_metrics(tmp_path)
    progress = [event for event in events if isinstance(event, Progress)]
    assert [(e.step, e.steps, e.loss, e.gradient_norm, e.learning_rate) for e in progress] == [
        (row["step"], 12, row["loss"], row["gradient_norm"], row["learning_rate"])
        for row in rows
        if row["kind"] == "train"
    ]
    evaluated = [event for event in events if isinstance(event, Evaluated)]
    assert [(e.step, e.split) for e in evaluated] == [
        (6, "validation"),
        (12, "validation"),
        (12, "test"),
    ]
    assert result.test == evaluated[-1].metrics


def test_load_model(tmp_path: Path) -> None:
    result = train(tiny(), tmp_path)
    state = torch.get_rng_state()
    config, task, model = load_model(tmp_path)
    assert torch.equal(torch.get_rng_state(), state)
    assert config == tiny()
    assert evaluate(model, task, task.batches("test", 128)) == result.test


def test_stops_when_solved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[float] = []

    def solved(metrics: dict[str, float]) -> bool:
        seen.append(metrics["loss"])
        return len(set(seen)) >= 2

    script(monkeypatch, Scripted(solved=solved))
    result = train(tiny(evaluate_every=3), tmp_path / "stops")
    assert (result.status, result.step) == ("solved", 6)
    assert latest(tmp_path / "stops").name == "checkpoint-6"
    assert [row["step"] for row in read_metrics(tmp_path / "stops")] == [3, 5, 6, 6]

    seen.clear()
    result = train(tiny(evaluate_every=3, stop_when_solved=False), tmp_path / "goes on")
    assert (result.status, result.step) == ("solved", 12)


def test_solved_run_that_lost_its_result_does_not_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script(monkeypatch, Scripted(solved=lambda metrics: True))
    assert train(tiny(), tmp_path).step == 6
    (tmp_path / "result.json").unlink()
    assert train(tiny(), tmp_path).step == 6


def diverging(step: int, quantity: str) -> Scripted:
    """Not finite from the batch of this step on."""
    fatal = Scripted()._draw(step - 1, 8).inputs

    def loss(outputs: Tensor, batch: SequenceBatch) -> Tensor:
        mean = (outputs - batch.targets).square().mean()
        if not torch.equal(batch.inputs, fatal):
            return mean
        if quantity == "loss":
            return mean * float("inf")
        return mean + (outputs - outputs.detach()).abs().sum().sqrt()  # 0, of infinite slope

    return Scripted(loss)


@pytest.mark.parametrize("step", [1, 2, 8, 12])
@pytest.mark.parametrize("quantity", ["loss", "gradient"])
def test_divergence(
    quantity: str, step: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is the result, and the weights are those before."""
    script(monkeypatch, diverging(step, quantity))
    events: list[Event] = []
    result = train(tiny(), tmp_path / "diverged", observer=events.append)
    assert result.status == "diverged"
    assert result.diverged == Divergence(step, quantity)
    assert result.step == step - 1
    assert result.test is None
    assert (result.validation is None) == (step <= 6)
    assert events[-1] == Finished(tmp_path / "diverged", result)
    assert train(tiny(), tmp_path / "diverged") == result
    (tmp_path / "diverged" / "result.json").unlink()
    again = train(tiny(), tmp_path / "diverged")
    assert dataclasses.replace(again, seconds=result.seconds) == result

    if step > 1:
        script(monkeypatch, Scripted())
        train(tiny(steps=step - 1), tmp_path / "before")
        assert same_weights(tmp_path / "diverged", tmp_path / "before")
    for line in (tmp_path / "diverged" / "metrics.jsonl").read_text().splitlines():
        assert "NaN" not in line
        assert "Infinity" not in line
        json.loads(line)


def test_divergence_without_a_script(tmp_path: Path) -> None:
    """An identity-initialised ReLU network at an absurd rate."""
    config = tiny(model="irnn:hidden=8", optimizer="SGD", learning_rate=1e25, clip_norm=None)
    result = train(config, tmp_path)
    assert result.status == "diverged"
    assert all(value.isfinite().all() for value in weights(tmp_path).values())


def test_divergence_of_held_out_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def loss(outputs: Tensor, batch: SequenceBatch) -> Tensor:
        mean = (outputs - batch.targets).square().mean()
        return mean if outputs.requires_grad else mean * float("nan")

    script(monkeypatch, Scripted(loss))
    result = train(tiny(), tmp_path)
    assert (result.status, result.step, result.diverged) == ("diverged", 6, Divergence(6, "loss"))
    assert (result.validation, result.test) == (None, None)
    assert all(row["kind"] == "train" for row in read_metrics(tmp_path))
    (tmp_path / "result.json").unlink()
    assert train(tiny(), tmp_path).diverged == Divergence(6, "loss")
