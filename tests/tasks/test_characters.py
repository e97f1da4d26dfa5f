"""Text by characters: windows, splits, chance, and the file behind it."""

import gzip
import hashlib
import itertools
import sys

import pytest
import torch
from tasks.drawing import training_batch

from throughtime.core.errors import ConfigurationError, DataError
from throughtime.tasks import Characters
from throughtime.tasks.corpora import read_text
from throughtime.tasks.download import RemoteFile

TEXT = "the quick brown fox jumps over the lazy dog. " * 60


def test_targets_are_the_next_characters() -> None:
    task = Characters(TEXT, length=20)
    batch = training_batch(task, 3, 5, seed=1)
    codes = batch.inputs.argmax(-1)
    assert torch.equal(codes[1:], batch.targets[:-1])
    said = ["".join(task.alphabet[k] for k in row) for row in codes.T.tolist()]
    assert all(text in TEXT for text in said)
    assert torch.equal(batch.targets, training_batch(task, 3, 5, seed=1).targets)
    assert not torch.equal(batch.targets, training_batch(task, 4, 5, seed=1).targets)


def test_splits_follow_each_other() -> None:
    task = Characters(TEXT, length=20)
    parts = [*task.codes.values()]
    assert "".join(task.alphabet[k] for k in torch.cat(parts).tolist()) == TEXT
    for size in (1, 3, 100):
        windows = [b.targets for b in task.batches("test", size)]
        whole = torch.cat(windows, 1).T.flatten()
        assert torch.equal(whole, task.codes["test"][1 : 1 + len(whole)])


def test_chance_is_the_table_of_pairs() -> None:
    """Of two characters in turn, the last one tells the next."""
    task = Characters("ab" * 500, length=10)
    assert task.chance == 1.0
    assert task.chance_loss < 0.01
    assert task.solved({"loss": 1.0, "accuracy": 0.0})
    assert not task.solved({"loss": 1.1, "accuracy": 0.0})
    outputs = torch.zeros(10, 3, 2)
    batch = training_batch(task, 0, 3, seed=0)
    assert torch.equal(task.right(outputs, batch.targets), (batch.targets == 0).flatten())


def test_the_file(tmp_path, monkeypatch) -> None:
    content = TEXT.encode()
    file = RemoteFile("text.txt", (), hashlib.sha256(content).hexdigest())
    (tmp_path / "tinyshakespeare").mkdir()
    (tmp_path / "tinyshakespeare" / "text.txt.gz").write_bytes(gzip.compress(content))
    assert read_text(tmp_path, file=file) == TEXT
    monkeypatch.setenv("THROUGHTIME_DATA", str(tmp_path / "tinyshakespeare"))
    assert read_text(file=file) == TEXT
    with pytest.raises(DataError, match="no such folder"):
        read_text(tmp_path / "none", file=file)
    (tmp_path / "text.txt").write_bytes(content[:-1])
    with pytest.raises(DataError, match="SHA-256"):
        read_text(tmp_path, file=file)
    (tmp_path / "text.txt").unlink()
    (tmp_path / "text.txt.gz").write_bytes(gzip.compress(content)[:-9])
    with pytest.raises(DataError, match=r"text\.txt\.gz"):
        read_text(tmp_path, file=RemoteFile("text.txt", (), "0"))


def test_bad_options_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="length of task"):
        Characters(TEXT, length=1)
    with pytest.raises(DataError, match="expected at least 1818 for a length of 100"):
        Characters("ab" * 100)


def test_a_stream_goes_on_where_the_last_batch_ended() -> None:
    task = Characters(TEXT, length=20, stream=True)
    assert task.stream
    assert not Characters(TEXT, length=20).stream
    training = "".join(task.alphabet[k] for k in task.codes["training"].tolist())
    steps = len(training) // 20 + 3  # once around, and on
    batches = [training_batch(task, step, 4, seed=1) for step in range(steps)]
    for before, after in itertools.pairwise(batches):
        assert torch.equal(before.targets[-1], after.inputs[0].argmax(-1))
    rows = torch.cat([batch.targets for batch in batches]).T.tolist()
    for row in rows:
        assert "".join(task.alphabet[k] for k in row) in training * 3
    other = training_batch(task, 0, 4, seed=2)
    assert not torch.equal(other.targets, batches[0].targets)


def test_a_file_that_is_damaged_or_unpacks_to_far_too_much(tmp_path, monkeypatch) -> None:
    module = sys.modules["throughtime.tasks.corpora"]
    monkeypatch.setattr(module, "_MOST_BYTES", 1000)
    path, file = tmp_path / "text.txt.gz", RemoteFile("text.txt", (), "0")
    whole = gzip.compress(TEXT.encode())
    for k in range(len(whole)):  # each byte wrong in turn; the file's name and time may be
        path.write_bytes(whole[:k] + bytes([whole[k] ^ 0xFF]) + whole[k + 1 :])
        with pytest.raises(DataError, match=r"text\.txt"):
            read_text(tmp_path, file=file)
    path.write_bytes(gzip.compress(bytes(1001)))
    with pytest.raises(DataError, match="more than 1,000 bytes, expected SHA-256"):
        read_text(tmp_path, file=file)
