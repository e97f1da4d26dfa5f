"""Words and subwords of a text, perplexity, the Penn Treebank, text8, and files that are none."""

import dataclasses
import hashlib
import importlib.util
import inspect
import io
import itertools
import math
import zipfile
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from throughtime.core.errors import ConfigurationError, DataError
from throughtime.models import build_model
from throughtime.tasks import TASKS, Text, corpora
from throughtime.tasks.download import RemoteFile
from throughtime.tasks.vocabulary import SubwordVocabulary, WordVocabulary
from throughtime.training import evaluate

LINES = "the cat sat on the mat\nthe dog ran to the cat\n"
needs_tokenizers = pytest.mark.skipif(
    importlib.util.find_spec("tokenizers") is None, reason="tokenizers is not installed"
)


class Table(nn.Module):
    """The next symbol's logits, whatever came before; the state counts the symbols read."""

    def __init__(self, logits: Tensor):
        super().__init__()
        self.logits = nn.Parameter(logits)

    def losses(self, symbols: Tensor, targets: Tensor, state: Tensor | None = None):
        nll = -self.logits.log_softmax(-1)[targets.clamp(min=0)]
        read = torch.full((1, symbols.shape[1]), len(symbols))
        state = read if state is None else state + read
        return torch.where(targets >= 0, nll, 0.0), state


def two_sentences() -> tuple[Text, dict[str, float]]:
    """A corpus of two sentences, "a b <eos>" and "b <eos>", with known probabilities."""
    vocabulary = WordVocabulary(["<unk>", "<eos>", "a", "b"])
    held_out = torch.tensor(vocabulary.encode("a b\nb\n"))
    codes = {"training": torch.arange(200) % 4, "validation": held_out, "test": held_out}
    return Text(vocabulary, codes, length=5), {"<unk>": 0.1, "<eos>": 0.4, "a": 0.3, "b": 0.2}


def test_perplexity_of_a_hand_made_corpus_of_two_sentences(monkeypatch) -> None:
    """exp(sum of NLL / sum of symbols): both ends counted, whatever the parts of the text."""
    task, probability = two_sentences()
    model = Table(torch.tensor([probability[s] for s in task.vocabulary.symbols]).log())
    # after the first symbol, which nothing predicts: b <eos> b <eos>
    product = 0.2 * 0.4 * 0.2 * 0.4
    for steps in (1000, 3, 1):  # in one piece, in pieces of unequal sizes, symbol by symbol
        monkeypatch.setattr("throughtime.tasks.texts._HELD_OUT_STEPS", steps)
        found = evaluate(model, task, task.batches("test", 7))
        assert found["perplexity"] == pytest.approx(product ** (-1 / 4), rel=1e-6)
        assert found["loss"] == pytest.approx(-math.log(product) / 4, rel=1e-6)
        assert set(found) == {"loss", "perplexity"}


def test_a_perplexity_beyond_all_numbers_is_the_largest() -> None:
    task, _ = two_sentences()
    found = evaluate(Table(torch.tensor([0.0, 0, 0, -1e4])), task, task.batches("test", 1))
    assert found["loss"] > 710
    assert 1e308 < found["perplexity"] < math.inf


def test_words_of_a_text() -> None:
    task = Text.of(LINES * 20, tokens="words", length=5)
    assert isinstance(task.vocabulary, WordVocabulary)
    assert task.vocabulary.end is not None
    whole = " ".join(task.vocabulary.decode(task.codes[s].tolist()) for s in task.codes)
    assert whole.split() == (LINES * 20).split()
    assert [metric.name for metric in task.metrics] == ["perplexity", "loss"]
    headline, loss = task.metrics
    assert headline.chance == pytest.approx(math.exp(loss.chance))
    assert task.solved({"loss": loss.chance - 2.4})
    assert not task.solved({"loss": loss.chance - 2.2})
    flat = Text.of(LINES * 20, tokens="words", length=5, lines=False)
    assert flat.vocabulary.end not in flat.codes["training"]


def test_words_come_from_the_training_text_alone() -> None:
    text = "to be or be not " * 100 + "zebra zebra " * 10
    task = Text.of(text, tokens="words", length=5)
    assert "zebra" not in task.vocabulary.symbols
    assert task.vocabulary.unknown in task.codes["test"]
    assert Text.of(text, tokens="words", length=5, size=3).vocabulary.symbols[2:] == ("be",)


def test_chance_of_words_is_their_frequency() -> None:
    task = Text.of(LINES * 20, tokens="words", length=5)
    training, validation = task.codes["training"].tolist(), task.codes["validation"].tolist()
    total = len(training) + len(task.vocabulary)
    nll = [-math.log((training.count(k) + 1) / total) for k in validation[1:]]
    assert task.chance_loss == pytest.approx(sum(nll) / len(nll))


@needs_tokenizers
def test_bits_per_character_of_subwords_count_characters() -> None:
    task = Text.of("naïve café — the naïve cafés\n" * 60, tokens="subwords", size=290, length=5)
    assert isinstance(task.vocabulary, SubwordVocabulary)
    model = build_model("gru:hidden=4", task.inputs, task.answers)
    found = evaluate(model, task, task.batches("test", 1))
    codes = task.codes["test"].tolist()
    characters = len(task.vocabulary.decode(codes)) - len(task.vocabulary.decode(codes[:1]))
    bits = found["loss"] * (len(codes) - 1) / math.log(2)
    assert found["bits_per_character"] == pytest.approx(bits / characters, rel=1e-6)
    assert found["perplexity"] == pytest.approx(math.exp(found["loss"]))


def test_a_window_of_any_length_trains_with_the_state_of_the_text_before() -> None:
    """The carried state equals that of the whole text; the gradient stays within the window."""
    task = Text.of(LINES * 20, tokens="words", length=3)
    model = build_model("rnn:hidden=4", task.inputs, task.answers).double()
    batches = [*itertools.islice(task.batches("training", 2), 3)]
    state = None
    for batch in batches:
        score = task.score(model, batch, state=state, step=0)
        state = score.state.detach()
    whole = torch.cat([batch.inputs for batch in batches])
    torch.testing.assert_close(state, model(whole)[1].detach())


@pytest.fixture
def penn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three small files in the form of the Penn Treebank."""
    parts = {"train": 60, "valid": 4, "test": 5}
    files = {}
    for split, (name, lines) in zip(corpora.PENN_TREEBANK, parts.items(), strict=True):
        content = " no it was <unk> N times \n it was n't \n" * lines
        (tmp_path / f"ptb.{name}.txt").write_text(content)
        digest = hashlib.sha256(content.encode()).hexdigest()
        files[split] = dataclasses.replace(corpora.PENN_TREEBANK[split], sha256=digest)
    monkeypatch.setattr(corpora, "PENN_TREEBANK", files)
    return tmp_path


def test_penn_treebank_by_words(penn: Path) -> None:
    task = TASKS.build("penn-treebank:length=5", data_dir=str(penn))
    assert isinstance(task, Text)
    assert task.name == "penn-treebank"
    assert {len(codes) for codes in task.codes.values()} == {660, 44, 55}  # 6 + 3 and an end each
    assert set(task.vocabulary.symbols) == {
        *("<unk>", "<eos>", "no", "it", "was", "N", "times", "n't")
    }
    first = "no it was <unk> N times\nit was n't\n"
    assert task.vocabulary.decode(task.codes["test"][:11].tolist()) == first


def test_penn_treebank_by_characters_keeps_both_blanks(penn: Path) -> None:
    task = TASKS.build("penn-treebank:tokens=characters,length=5", data_dir=str(penn))
    assert isinstance(task, Text)
    lines = " no it was <unk> N times  it was n't "
    assert task.vocabulary.decode(task.codes["test"].tolist()) == lines * 5
    assert "\n" not in task.vocabulary.symbols


def test_another_file_than_the_penn_treebank(penn: Path) -> None:
    (penn / "ptb.valid.txt").write_text("another\n")
    with pytest.raises(DataError, match=r"ptb\.valid\.txt: got SHA-256"):
        TASKS.build("penn-treebank", data_dir=str(penn))
    (penn / "ptb.valid.txt").unlink()
    with pytest.raises(DataError, match=r"got no ptb\.valid\.txt, expected .* subfolder ptb"):
        TASKS.build("penn-treebank", data_dir=str(penn))


def zipped(folder: Path, content: bytes, monkeypatch: pytest.MonkeyPatch) -> str:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("text8", content)
    (folder / "text8.zip").write_bytes(buffer.getvalue())
    file = RemoteFile("text8.zip", (), hashlib.sha256(buffer.getvalue()).hexdigest())
    monkeypatch.setattr(corpora, "TEXT8", file)
    read = inspect.unwrap(corpora.read_text8)  # below a check of types, if there is one
    monkeypatch.setattr(read, "__kwdefaults__", {"file": file})
    return str(folder)


def test_text8(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = b" anarchism originated as a term " * 100
    task = TASKS.build("text8:length=10", data_dir=zipped(tmp_path, content, monkeypatch))
    assert isinstance(task, Text)
    assert [len(task.codes[s]) for s in ("training", "validation", "test")] == [2880, 160, 160]
    assert len(task.vocabulary) == 27
    whole = torch.cat([*task.codes.values()]).tolist()
    assert task.vocabulary.decode(whole).encode() == content
    assert next(task.batches("training", 3)).inputs.dtype == torch.int64
    assert 0 < task.chance_loss < math.log(27)
    with pytest.raises(DataError, match="got other characters"):
        TASKS.build("text8", data_dir=zipped(tmp_path, b"Anarchism" * 900, monkeypatch))
    (tmp_path / "text8.zip").write_bytes(b"PK")
    with pytest.raises(DataError, match="got SHA-256"):
        TASKS.build("text8", data_dir=str(tmp_path))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("café".encode("latin-1") * 900, "got byte 0xe9 at place 3: .* iconv -f ENCODING -t UTF-8"),
        ("text".encode("utf-16") * 900, "got byte 0xff at place 0: .*such as .*UTF-16"),
        (b"", "got no text, expected a text file in UTF-8"),
        (b"\n \n\n", "got no text, expected a text file in UTF-8"),
        (b"few words", "training text of task 'text': got"),
    ],
    ids=["latin", "utf-16", "empty", "blank", "short"],
)
@pytest.mark.parametrize("tokens", ["characters", "words"])
def test_files_that_are_no_text(content: bytes, words: str, tokens: str, tmp_path: Path) -> None:
    (tmp_path / "my.txt").write_bytes(content)
    with pytest.raises(DataError, match=words):
        TASKS.build(f"text:file={tmp_path / 'my.txt'},tokens={tokens}")


def test_empty_lines_and_a_byte_order_mark(tmp_path: Path) -> None:
    """An empty line is an end of a line; a mark of the byte order is no character."""
    (tmp_path / "my.txt").write_bytes("\ufeffa b\r\n\r\nb a\r\n".encode() * 60)
    task = TASKS.build(f"text:file={tmp_path / 'my.txt'},tokens=words,length=5")
    assert isinstance(task, Text)
    assert task.vocabulary.decode(task.codes["training"][:7].tolist()) == "a b\n\nb a\n"


def test_wrong_options(tmp_path: Path) -> None:
    (tmp_path / "my.txt").write_text(LINES * 60)
    with pytest.raises(ConfigurationError, match=r"size of task 'text': got 30, expected none"):
        TASKS.build(f"text:file={tmp_path / 'my.txt'},size=30")
    with pytest.raises(ConfigurationError, match="got 'letters', expected one of characters"):
        TASKS.build(f"text:file={tmp_path / 'my.txt'},tokens=letters")


@pytest.mark.skipif(
    importlib.util.find_spec("tokenizers") is not None, reason="tokenizers is installed"
)
def test_subwords_without_the_package(tmp_path: Path) -> None:
    (tmp_path / "my.txt").write_text(LINES * 60)
    with pytest.raises(ConfigurationError, match="pip install"):
        TASKS.build(f"text:file={tmp_path / 'my.txt'},tokens=subwords")
