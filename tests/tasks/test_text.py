"""Text as one stream: batches, carried state, bits, and a run that is killed."""

import dataclasses
import hashlib
import itertools
import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from training.tiny import tiny, trained

from throughtime.cells import RecurrentDropoutLSTMCell
from throughtime.core.errors import (
    ConfigurationError,
    DataError,
    LearnerRefusalError,
    RunMismatchError,
)
from throughtime.models import LanguageModel, build_model
from throughtime.studies import CompareRequest, compare
from throughtime.tasks import TASKS, Text
from throughtime.training import Evaluated, Event, evaluate, load_model, read_json, train

TEXT = "the quick brown fox jumps over the lazy dog. " * 60
TASK = Text.of(TEXT, length=20)


def file(folder: Path) -> str:
    (folder / "plays.txt").write_text(TEXT)
    return f"text:length=20,file={folder / 'plays.txt'}"


def said(codes: torch.Tensor) -> str:
    return TASK.vocabulary.decode(codes.tolist())


def test_training_batches_continue_each_other() -> None:
    training = said(TASK.codes["training"])
    batches = [*itertools.islice(TASK.batches("training", 4, seed=1), len(training) // 20 + 3)]
    for before, after in itertools.pairwise(batches):
        assert torch.equal(before.targets[-1], after.inputs[0])
    for row in torch.cat([batch.targets for batch in batches]).T:
        assert said(row) in training * 3
    (third,) = itertools.islice(TASK.batches("training", 4, seed=1, start=3), 1)
    assert torch.equal(third.inputs, batches[3].inputs)


def test_held_out_text_is_one_row_without_gaps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("throughtime.tasks.texts._HELD_OUT_STEPS", 50)
    batches = [*TASK.batches("test", 128)]
    assert len(batches) > 2
    codes = TASK.codes["test"]
    assert torch.equal(torch.cat([b.inputs for b in batches])[:, 0], codes[:-1])
    assert torch.equal(torch.cat([b.targets for b in batches])[:, 0], codes[1:])


def test_the_state_is_carried_over_all_held_out_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bits in pieces are those of the whole text at once."""
    torch.manual_seed(0)
    model = build_model("lstm:hidden=6", TASK.inputs, TASK.answers)
    codes = TASK.codes["validation"]
    logits, _ = model(codes[:-1, None])
    expected = float(F.cross_entropy(logits[:, 0].detach(), codes[1:])) / math.log(2)
    for steps in (7, 50):
        monkeypatch.setattr("throughtime.tasks.texts._HELD_OUT_STEPS", steps)
        found = evaluate(model, TASK, TASK.batches("validation", 3))
        assert found["bits_per_character"] == pytest.approx(expected, rel=1e-6)
        assert found["loss"] == pytest.approx(expected * math.log(2), rel=1e-6)


def test_chance_is_that_of_pairs() -> None:
    headline, loss = TASK.metrics
    characters = TASKS.build("digits").metrics[0]
    assert (headline.name, headline.better) == ("bits_per_character", "lower")
    assert characters.name == "accuracy"
    assert headline.chance == pytest.approx(loss.chance / math.log(2))
    assert 0 < headline.chance < math.log2(len(TASK.vocabulary))
    assert TASK.solved({"bits_per_character": 1.4})
    assert not TASK.solved({"bits_per_character": 1.6})


class Stopped(Exception):
    """The process is killed."""


@pytest.mark.parametrize("model", ["gru:hidden=5", "lstm-peephole:hidden=4,layers=2"])
def test_a_killed_run_resumes_to_the_same_bits(model: str, tmp_path: Path) -> None:
    """The state of the stream is in the checkpoint."""
    config = tiny(task=file(tmp_path), model=f"{model},engine=eager", stop_when_solved=False)

    def stop(event: Event) -> None:
        if isinstance(event, Evaluated):
            raise Stopped

    with pytest.raises(Stopped):  # after 6 updates, of which 4 are saved
        train(config, tmp_path / "cut", observer=stop)
    train(config, tmp_path / "cut")
    result = train(config, tmp_path / "whole")
    assert trained(tmp_path / "cut") == trained(tmp_path / "whole")
    assert result.metrics == TASKS.build(config.task).metrics
    assert result.test is not None
    assert set(result.test) == {"loss", "bits_per_character"}


def test_a_mask_per_sequence_is_drawn_anew_for_each_update(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The state is carried, the mask is not."""
    drawn: list[torch.Tensor] = []
    draw = RecurrentDropoutLSTMCell.draw_streams

    def spied(self, steps, *, training, **options):
        (masks,) = draw(self, steps, training=training, **options)
        if training:
            drawn.append(masks.clone())
        return (masks,)

    monkeypatch.setattr(RecurrentDropoutLSTMCell, "draw_streams", spied)
    model = "lstm-dropout:per=sequence,rate=0.5,hidden=40,engine=eager"
    train(tiny(task=file(tmp_path), model=model, stop_when_solved=False), tmp_path / "run")
    assert len(drawn) >= 12
    for masks in drawn:
        assert torch.equal(masks, masks[:1].expand_as(masks))
    for before, after in itertools.pairwise(drawn):
        assert not torch.equal(before, after)


def checksum(folder: Path) -> str:
    return hashlib.sha256((folder / "plays.txt").read_bytes()).hexdigest()[:16]


def test_a_run_does_not_go_on_with_another_text(tmp_path: Path) -> None:
    config = tiny(task=file(tmp_path), model="gru:hidden=5", stop_when_solved=False)

    def stop(event: Event) -> None:
        if isinstance(event, Evaluated):
            raise Stopped

    with pytest.raises(Stopped):
        train(config, tmp_path / "run", observer=stop)
    before = checksum(tmp_path)
    assert read_json(tmp_path / "run" / "config.json")["task"] == f"{config.task},sha256={before}"
    (tmp_path / "plays.txt").write_text(TEXT.replace("lazy", "idle", 1))
    message = rf"got task='text:.*sha256={checksum(tmp_path)}', expected task='text:.*{before}'"
    for _ in range(2):
        with pytest.raises(RunMismatchError, match=f"{message}. Choose another folder"):
            train(config, tmp_path / "run")
    with pytest.raises(DataError, match=f"got SHA-256 {checksum(tmp_path)}, expected {before}"):
        load_model(tmp_path / "run")
    file(tmp_path)  # as it was
    result = train(config, tmp_path / "run")
    assert train(config, tmp_path / "run") == result
    (tmp_path / "plays.txt").write_text(TEXT * 2)
    with pytest.raises(RunMismatchError, match="Choose another folder"):
        train(config, tmp_path / "run")


def test_a_comparison_is_of_one_text(tmp_path: Path) -> None:
    request = CompareRequest(
        f"text:length=20,file={tmp_path / 'plays.txt'}", ("gru:hidden=3",), seeds=1, steps=1, jobs=1
    )
    file(tmp_path)
    before = checksum(tmp_path)
    compare(request, tmp_path / "runs")
    (tmp_path / "plays.txt").write_text(TEXT.replace("lazy", "idle", 1))
    message = rf"another task: got text:.*{checksum(tmp_path)}, expected text:.*{before}"
    with pytest.raises(RunMismatchError, match=message):
        compare(dataclasses.replace(request, models=("rnn:hidden=3",)), tmp_path / "runs")


def test_a_checksum_is_that_of_the_file(tmp_path: Path) -> None:
    spec = file(tmp_path)
    (tmp_path / "plays.txt").write_bytes(TEXT.replace(". ", ".\r\n").encode())
    task = TASKS.build(f"{spec},sha256={checksum(tmp_path)}")
    assert task.sha256 == checksum(tmp_path)
    assert isinstance(task, Text)
    assert "\r" not in task.vocabulary.symbols
    for wrong in ("", "12", "Z" * 16):
        with pytest.raises(ConfigurationError, match=f"got '{wrong}' for .*16 to 64 hexadecimal"):
            TASKS.build(f"{spec},sha256={wrong}")
    with pytest.raises(ConfigurationError, match="for no file"):
        TASKS.build(f"text:sha256={checksum(tmp_path)}")
    with pytest.raises(DataError, match=f"expected {'0' * 64}. Bring the file back"):
        TASKS.build(f"{spec},sha256={'0' * 64}")


def test_the_carried_state_matters(tmp_path: Path) -> None:
    """The second update differs from that of a state that starts afresh."""
    model = build_model("gru:hidden=5", TASK.inputs, TASK.answers)
    first, second = itertools.islice(TASK.batches("training", 3), 2)
    score = TASK.score(model, first, step=0)
    assert score.state is not None
    carried = TASK.score(model, second, state=score.state.detach(), step=1)
    assert not torch.equal(carried.loss, TASK.score(model, second, step=1).loss)


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="bidirectional"):
        build_model("lstm:bidirectional=true", TASK.inputs, TASK.answers)
    with pytest.raises(LearnerRefusalError, match="LanguageModel on task text"):
        train(tiny(task=file(tmp_path), model="gru:hidden=3", learner="uoro"), tmp_path / "run")
    with pytest.raises(DataError, match=r"none\.txt"):
        TASKS.build("text:file=none.txt", data_dir=str(tmp_path))
    with pytest.raises(DataError, match="got 180 symbols, expected at least 1818"):
        Text.of("ab" * 100)
    assert isinstance(build_model("rnn", TASK.inputs, TASK.answers), LanguageModel)
