"""Tags: of symbols that occurred before, and of the tokens of a file."""

from pathlib import Path

import pytest
import torch

import throughtime as tt
from throughtime.models import build_model
from throughtime.tasks import TASKS, SeenBefore, TaggedSentences
from throughtime.training import RunConfig, train
from throughtime.training.config import with_checksum

SENTENCES = [[("the", "D"), ("dog", "N"), ("sleeps", "V")], [("dogs", "N"), ("run", "V")]] * 20


def as_text(sentences) -> str:
    return "\n\n".join("\n".join(f"{token}\t{tag}" for token, tag in s) for s in sentences) + "\n"


def test_a_symbol_is_tagged_by_those_before_it() -> None:
    batch = next(SeenBefore(symbols=4, length=9).batches("training", 20))
    for b in range(20):
        symbols = batch.inputs[:, b].tolist()
        expected = [int(s in symbols[:t]) for t, s in enumerate(symbols)]
        assert batch.targets[:, b].tolist() == expected


def test_chance_is_that_of_the_step_alone() -> None:
    task = SeenBefore(symbols=5, length=8)
    targets = torch.cat([b.targets for b in task.batches("test", 500)], 1).double()
    share = targets.mean(1)
    assert task.chance == pytest.approx(float(torch.maximum(share, 1 - share).mean()), abs=0.01)
    inner = share[1:]
    nats = -(inner * inner.log() + (1 - inner) * (1 - inner).log()).sum() / 8
    assert task.chance_loss == pytest.approx(float(nats), rel=0.02)


def test_sentences_of_a_file_are_tokens_and_tags(tmp_path: Path) -> None:
    file = tmp_path / "a.tags"
    file.write_text(as_text(SENTENCES))
    task = TASKS.build(f"tagging:file={file}")
    assert isinstance(task, TaggedSentences)
    assert [len(task.sentences[s]) for s in ("training", "validation", "test")] == [36, 2, 2]
    batch = next(task.batches("training", 8))
    words = task.vocabularies["source"]
    for b in range(8):
        n = batch.lengths[b]
        tokens = words.decode(batch.inputs[:n, b].tolist()).split()
        tags = [task.tags[k] for k in batch.targets[:n, b].tolist()]
        assert list(zip(tokens, tags, strict=True)) in SENTENCES
        assert (batch.targets[n:, b] == -1).all()
    assert [b.size for b in task.batches("test", 3)] == [2]
    config = with_checksum(RunConfig(task=f"tagging:file={file}", model="gru"))
    file.write_text(as_text(SENTENCES[1:]))
    with pytest.raises(tt.errors.DataError, match="got SHA-256"):
        TASKS.build(config.task)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"dog N\nsleeps\n", "line 2: got 'sleeps', expected a token and a tag"),
        (b"dog N\n", "got 1 sentences, expected at least 20"),
        (b"\n\n", "got 0 sentences"),
        (b"caf\xe9 N\n", "expected a text file in UTF-8"),
    ],
)
def test_files_without_tags_are_refused(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "a.tags").write_bytes(content)
    with pytest.raises(tt.errors.DataError, match=words):
        TASKS.build(f"tagging:file={tmp_path / 'a.tags'}")
    with pytest.raises(tt.errors.ConfigurationError, match="hexadecimal digits"):
        TASKS.build("tagging:sha256=abcdef")


@pytest.mark.parametrize("per_step", [False, True])
def test_a_model_of_symbols_embeds_them_and_reads_no_padding(per_step: bool) -> None:
    kinds = tt.tasks.kinds.Tokens(7), tt.tasks.kinds.Classes(3, per_step=per_step)
    model = build_model("readout:cell=lstm,bidirectional=true,embedding=5", *kinds)
    symbols, lengths = torch.randint(7, (6, 3)), torch.tensor([6, 2, 4])
    together = model(symbols, lengths)
    for b, n in enumerate(lengths.tolist()):
        alone = model(symbols[:n, b : b + 1])
        own = together[:n, b : b + 1] if per_step else together[b : b + 1]
        torch.testing.assert_close(own, alone)


def test_learners_of_vectors_refuse_symbols(tmp_path: Path) -> None:
    config = RunConfig(task="tagging", model="gru:hidden=4", learner="rtrl", steps=1)
    with pytest.raises(tt.errors.LearnerRefusalError, match="got symbols, of task tagging"):
        train(config, tmp_path / "run")
    done = train(RunConfig(task="tagging", model="gru:hidden=4", steps=2), tmp_path / "other")
    assert done.status == "completed"


def test_the_last_answer_keeps_the_symbols() -> None:
    task = SeenBefore()
    last = task.last_answers(next(task.batches("training", 2)))
    assert last.inputs.dtype == torch.int64
    assert ((last.targets >= 0).sum(0) == 1).all()
