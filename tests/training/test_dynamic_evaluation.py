"""Dynamic evaluation: static where the rate is 0, better where the text repeats itself."""

import random
from pathlib import Path

import pytest
import torch
from torch import nn
from training.tiny import tiny

from throughtime.core.errors import ConfigurationError
from throughtime.core.scoring import merged
from throughtime.models import build_model
from throughtime.tasks import TASKS, SequenceBatch, Text
from throughtime.training import dynamic_evaluation, evaluate, train

RANDOM = random.Random(0)
WORDS = [
    "".join(RANDOM.choices("abcdefgh", k=5)) for _ in range(400)
]  # the held-out text repeats a few words that the training text has not
TEXT = " ".join([*WORDS[:300], *WORDS[300:310] * 4])


def task_of(text: str = TEXT) -> Text:
    return Text.of(text, length=10)


def model_of(task: Text, dropout: float = 0.0) -> nn.Module:
    torch.manual_seed(0)
    spec = f"language-model:cell=gru,hidden=16,dropout={dropout},engine=eager"
    return build_model(spec, task.inputs, task.answers)


def pieces(task: Text, size: int) -> list[SequenceBatch]:
    (batch,) = task.batches("test", 1)
    inputs, targets = batch.inputs.split(size), batch.targets.split(size)
    return [SequenceBatch(*piece) for piece in zip(inputs, targets, strict=True)]


def test_rate_zero_is_the_static_evaluation() -> None:
    task = task_of()
    model = model_of(task, dropout=0.5).train()
    found = dynamic_evaluation(model, task, "test", rate=0.0, segment=7)
    expected = evaluate(model, task, pieces(task, 7))
    assert found == {f"dynamic_{name}": value for name, value in expected.items()}
    whole = evaluate(model, task, task.batches("test", 1))
    assert found["dynamic_loss"] == pytest.approx(whole["loss"], rel=1e-6)
    assert model.training


def test_updates_are_those_of_a_naive_loop() -> None:
    """Each segment is scored, and then learned from, with a pull towards the trained weights."""
    task = task_of()
    model, naive = model_of(task).double(), model_of(task).double()
    rate, decay = 0.3, 0.1
    found = dynamic_evaluation(model, task, "test", rate=rate, decay=decay, segment=9)
    trained = [p.detach().clone() for p in naive.parameters()]
    state, parts = None, []
    for piece in pieces(task, 9):
        score = task.score(naive, piece, state=state)
        parts.append(score.parts)
        naive.zero_grad()
        score.loss.backward()
        state = score.state.detach()
        with torch.no_grad():
            for p, start in zip(naive.parameters(), trained, strict=True):
                p.copy_(p - rate * p.grad + decay * (start - (p - rate * p.grad)))
    expected = task.report(merged(parts))
    assert found["dynamic_loss"] == pytest.approx(expected["loss"], rel=1e-12)


def test_the_model_is_unchanged_and_the_repetition_is_learned() -> None:
    task = task_of()
    model = model_of(task)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    random_state = torch.get_rng_state()
    static = evaluate(model, task, task.batches("test", 1))
    found = dynamic_evaluation(model, task, "test", rate=0.3)
    assert found["dynamic_bits_per_character"] < static["bits_per_character"]
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name])
    assert all(p.grad is None for p in model.parameters())
    assert torch.equal(torch.get_rng_state(), random_state)
    pulled = dynamic_evaluation(model, task, "test", rate=0.3, decay=1.0)
    assert pulled["dynamic_loss"] == pytest.approx(static["loss"], rel=1e-6)


def test_the_model_is_unchanged_after_an_error() -> None:
    task = task_of()
    model = model_of(task)
    before = [p.detach().clone() for p in model.parameters()]
    score, calls = task.score, []

    def failing(*args, **options):
        calls.append(1)
        if len(calls) == 3:
            raise RuntimeError("stopped")
        return score(*args, **options)

    task.score = failing  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(RuntimeError, match="stopped"):
        dynamic_evaluation(model, task, "test", rate=0.3)
    for p, expected in zip(model.parameters(), before, strict=True):
        assert torch.equal(p, expected)


def test_a_run_reports_both(tmp_path: Path) -> None:
    (tmp_path / "my.txt").write_text(TEXT)
    task = f"text:length=10,file={tmp_path / 'my.txt'}"
    result = train(tiny(task=task, model="gru:hidden=5", dynamic_rate=0.1), tmp_path / "run")
    assert result.test is not None
    names = {"loss", "bits_per_character"}
    assert set(result.test) == names | {f"dynamic_{name}" for name in names}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"rate": -0.1}, "rate of dynamic evaluation: got -0.1"),
        ({"rate": float("nan")}, "rate of dynamic evaluation: got nan"),
        ({"rate": 0.1, "decay": 1.5}, "decay of dynamic evaluation: got 1.5, expected 0 to 1"),
        ({"rate": 0.1, "segment": 0}, "segment: got 0"),
    ],
)
def test_numbers_out_of_range(options: dict[str, float], words: str) -> None:
    task = task_of()
    with pytest.raises(ConfigurationError, match=words):
        dynamic_evaluation(model_of(task), task, "test", **options)  # pyright: ignore[reportArgumentType]


def test_a_task_without_a_stream_is_refused(tmp_path: Path) -> None:
    task = TASKS.build("adding:length=20")
    with pytest.raises(ConfigurationError, match=r"got task 'adding', expected a task whose held"):
        dynamic_evaluation(nn.Linear(1, 1), task, "test", rate=0.1)
    with pytest.raises(ConfigurationError, match="dynamic evaluation: got task 'digits'"):
        train(tiny(dynamic_rate=0.1), tmp_path / "run")
    with pytest.raises(ConfigurationError, match="dynamic_rate of the run: got -1"):
        tiny(dynamic_rate=-1.0)
