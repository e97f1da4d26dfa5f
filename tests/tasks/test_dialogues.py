"""Dialogues: their batches, files that are read or refused, the least loss of a known source."""

import hashlib
import io
import json
import math
import zipfile
from pathlib import Path

import pytest
import torch

from throughtime.core.errors import ConfigurationError, DataError
from throughtime.models import build_model
from throughtime.tasks import TASKS, CountingDialogue, WordDialogues, dialogue_files
from throughtime.tasks.dialogues import collated, length_groups, reply_rows, seeds_of
from throughtime.tasks.download import RemoteFile
from throughtime.training.config import RunConfig, with_checksum


def _lines(count: int) -> list[list[str]]:
    return [[f"hello {k}", f"hello {k} again"] for k in range(count)]


def _written(folder: Path, dialogues: list[list[str]], name: str = "a.tsv") -> str:
    lines = ["\t".join(d) if name.endswith("tsv") else json.dumps(d) for d in dialogues]
    (folder / name).write_text("\n".join(lines) + "\n")
    return f"dialogue:file={folder / name}"


def test_a_batch_has_an_end_a_mask_and_a_first_utterance_that_is_not_due() -> None:
    batch = collated([[[5, 6], [7]], [[5], [6, 6, 6], [7]]], end=2)
    assert batch.symbols[..., 0].tolist() == [[5, 6, 2, 2], [7, 2, 2, 2], [2, 2, 2, 2]]
    assert batch.targets[..., 1].tolist() == [[-1] * 4, [6, 6, 6, 2], [7, 2, -1, -1]]
    rows = reply_rows(batch.symbols, batch.lengths, begin=1)
    assert rows.inputs.T.tolist() == [[1, 7, 2, 2], [1, 6, 6, 6], [1, 7, 2, 2]]
    assert rows.targets.T.tolist() == [[7, 2, -1, -1], [6, 6, 6, 2], [7, 2, -1, -1]]
    some = batch.targets.clone()
    some[2] = -1
    assert rows.due(some).targets.T.tolist() == [[7, 2, -1, -1], [6, 6, 6, 2], [-1] * 4]


def test_a_seed_is_a_function_of_the_dialogue_alone() -> None:
    dialogues = [[[5, 6], [7]], [[5], [6, 7]], [[5, 6], [7], [3]], [[5, 6], [7]]]
    together = seeds_of(collated(dialogues, end=2)).tolist()
    alone = [int(seeds_of(collated([each], end=2))) for each in dialogues]
    assert together == alone
    assert len(set(together)) == 3


def test_groups_hold_each_sequence_once_and_few_steps_in_vain() -> None:
    lengths = torch.tensor([1, 60, 3, 3, 12, 58, 2, 30, 13])
    groups = list(length_groups(lengths))
    assert sorted(k for _, rows in groups for k in rows.tolist()) == list(range(9))
    for most, rows in groups:
        assert int(lengths[rows].max()) == most
        least = int(lengths[rows].min())
        assert most <= 1.25 * least or most - least <= 6
    assert list(length_groups(torch.zeros(0, dtype=torch.int64))) == []


@pytest.mark.parametrize("name", ["a.tsv", "a.jsonl"])
def test_a_file_becomes_three_splits(tmp_path: Path, name: str) -> None:
    spec = _written(tmp_path, _lines(100), name)
    task = TASKS.build(f"{spec},least-count=1")
    assert isinstance(task, WordDialogues)
    seen = []
    for split, count in (("training", 90), ("validation", 5), ("test", 5)):
        assert len(task.texts[split]) == count
        seen += [tuple(d) for d in task.texts[split]]
    assert sorted(seen) == sorted(tuple(d) for d in _lines(100))
    assert TASKS.build(spec).texts == task.texts
    content = (tmp_path / name).read_bytes()
    assert task.sha256 == hashlib.sha256(content).hexdigest()[:16]
    config = with_checksum(RunConfig(task=spec, model="gru"))
    assert task.sha256 in config.task
    (tmp_path / name).write_bytes(content + content)
    with pytest.raises(DataError, match="Bring the file back as it was"):
        TASKS.build(config.task)


def test_held_out_files_are_used_and_words_of_theirs_alone_are_unknown(tmp_path: Path) -> None:
    spec = _written(tmp_path, [["a b", "b a"]])
    (tmp_path / "v").write_text("a\tc\n")
    task = TASKS.build(f"{spec},validation={tmp_path / 'v'},test={tmp_path / 'v'},least-count=1")
    assert task.dialogues["validation"] == [[[3], [task.vocabulary.unknown]]]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"hello\thello\nhello\n", r"a.tsv, line 2: got 1 utterance, expected at least 2"),
        (b"hello\thello\n\nhello\thello\n", "a.tsv, line 2: got an empty line"),
        (b"hello\t \n", "a.tsv, line 1: got an empty utterance"),
        (b"", "got no text"),
        ("h\u00e9llo\thello\n".encode("latin-1"), "Convert it: iconv"),
        ("hello\thello\n".encode("utf-16"), "expected a text file in UTF-8"),
        (b"hello\thello\n", "got 1, expected at least 20"),
    ],
)
def test_a_file_that_is_no_dialogues_is_refused(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "a.tsv").write_bytes(content)
    with pytest.raises(DataError, match=words):
        TASKS.build(f"dialogue:file={tmp_path / 'a.tsv'}")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("[1, 2]", r"a.jsonl, line 1: got \[1, 2\], expected a list of texts"),
        ('{"a": "b"}', "expected a list of texts"),
        ('["a"', "expected a list of texts in JSON"),
        ('["a"]', "got 1 utterance"),
        ('["a", " "]', "got an empty utterance"),
    ],
)
def test_json_lines_that_are_no_texts_are_refused(tmp_path: Path, line: str, words: str) -> None:
    (tmp_path / "a.jsonl").write_text(line + "\n")
    with pytest.raises(DataError, match=words):
        TASKS.build(f"dialogue:file={tmp_path / 'a.jsonl'}")


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("dialogue", "got no file, expected file=FILE"),
        ("dialogue:file=a,sha256=x", "16 to 64 hexadecimal digits"),
        ("counting-dialogue:turns=2", "got 2, expected at least 3"),
        ("counting-dialogue:annealing=-1", "annealing of task 'counting-dialogue': got -1"),
        ("counting-dialogue:free-nats=-1", "free_nats of task 'counting-dialogue': got -1"),
        ("counting-dialogue:samples=0", "samples of task 'counting-dialogue': got 0"),
    ],
)
def test_options_out_of_range_are_refused(spec: str, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        TASKS.build(spec)


def test_dialogues_that_cannot_be_a_task_are_refused() -> None:
    good = [["a", "b"]]

    def splits(training: list[list[str]]) -> dict:
        return {"training": training, "validation": good, "test": good}

    with pytest.raises(DataError, match="training dialogues: got none"):
        WordDialogues(splits([]))
    with pytest.raises(DataError, match="training dialogue 2: got 1 utterance"):
        WordDialogues(splits([["a", "b"], ["a"]]))
    with pytest.raises(DataError, match="training dialogue 1, utterance 2: got no text"):
        WordDialogues(splits([["a", " "]]))
    with pytest.raises(DataError, match="at most 1 symbols"):
        WordDialogues(splits([["a b", "b"]]), longest=1)


def test_long_utterances_are_left_out_of_training_alone() -> None:
    texts = [["a b c", "a"], ["a", "b"]]
    task = WordDialogues(dict.fromkeys(("training", "validation", "test"), texts), longest=2)
    assert [len(task.dialogues[s]) for s in ("training", "validation", "test")] == [1, 2, 2]


def _archive(name: str, text: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(f"{name}/dialogues_{name}.txt", text)
    return file.getvalue()


def test_daily_dialog_is_read_from_its_archives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "I ' m fine .And you ? __eou__ Fine , too ! __eou__\nAlone . __eou__\n"
    text += "Say , Jim , don \u2019 t go . __eou__ Why ? __eou__ No ! __eou__\n"
    (tmp_path / "dailydialog").mkdir()
    files = {}
    for split, file in dialogue_files.DAILY_DIALOG.items():
        content = _archive(file.name.removesuffix(".zip"), text)
        (tmp_path / "dailydialog" / file.name).write_bytes(content)
        files[split] = RemoteFile(file.name, (), hashlib.sha256(content).hexdigest())
    monkeypatch.setattr(dialogue_files, "DAILY_DIALOG", files)
    task = TASKS.build(f"dailydialog:data-dir={tmp_path},least-count=1")
    assert task.name == "dailydialog"
    assert task.texts["test"] == [
        ["I'm fine. And you?", "Fine, too!"],
        ["Say, Jim, don't go.", "Why?", "No!"],
    ]
    typed = task.vocabulary.encode("i'm fine, Jim!")
    assert task.vocabulary.unknown not in typed
    (tmp_path / "dailydialog" / "test.zip").write_bytes(b"no archive")
    with pytest.raises(DataError, match="got SHA-256"):
        TASKS.build(f"dailydialog:data-dir={tmp_path}")
    broken = RemoteFile("test.zip", (), hashlib.sha256(b"no archive").hexdigest())
    with pytest.raises(DataError, match="expected an archive with the text of dialogues"):
        dialogue_files.read_daily_dialog(tmp_path, broken)
    (tmp_path / "dailydialog" / "test.zip").unlink()
    with pytest.raises(DataError, match=r"no DailyDialog in .*got no test\.zip"):
        TASKS.build(f"dailydialog:data-dir={tmp_path}")


def test_a_reply_continues_the_speakers_own_count() -> None:
    task = CountingDialogue(turns=6)
    batch = next(task.batches("training", 50, seed=3))
    numbers = dialogue_words()
    for row in range(50):
        texts = [task.vocabulary.decode(t[:-1].tolist()).split() for t in batch.symbols[..., row]]
        for before, after in zip(texts, texts[2:], strict=False):
            assert before[1] == after[1]
            assert (numbers.index(before[0]) + 1) % 10 == numbers.index(after[0])


def dialogue_words() -> list[str]:
    return ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]


def test_no_model_is_below_the_entropy_and_one_that_counts_reaches_it() -> None:
    """A model that reads the utterance before alone has log 80 nats to pay in each reply."""
    task = CountingDialogue(turns=4)
    counts = torch.bincount(
        torch.cat([b.symbols[1, :2].flatten() for b in task.batches("validation", 500)]),
        minlength=task.inputs.alphabet,
    )
    assert int((counts > 0).sum()) == 18
    assert math.isclose(task.entropy, math.log(80) / 9)
    torch.manual_seed(0)
    losses = {}
    for name in ("hred", "flat-dialogue"):
        spec = f"{name}:cell=gru,context=initial"
        model = build_model(spec, task.inputs, task.answers)
        optimizer = torch.optim.Adam(model.parameters(), 0.01)
        for step, batch in zip(range(110), task.batches("training", 32), strict=False):
            optimizer.zero_grad()
            task.score(model, batch, step=step).loss.backward()
            optimizer.step()
        with torch.no_grad():
            score = task.score(model.eval(), next(task.batches("test", 500)))
        losses[name] = score.parts["loss"].value
    assert losses["flat-dialogue"] > math.log(80) / 3 - 0.02
    assert task.entropy - 0.01 < losses["hred"] < 0.85 * losses["flat-dialogue"], losses
