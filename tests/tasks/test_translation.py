"""Parallel texts: what is read, what is refused, and BLEU on detokenised text."""

import gzip
import hashlib
import sys
from pathlib import Path

import pytest
import torch

import throughtime as tt
from throughtime.models import build_model
from throughtime.tasks import TASKS, Parallel, Translation, parallel_texts
from throughtime.training.config import RunConfig, with_checksum

ENGLISH = [
    "A man, in a red shirt, sleeps.",
    "Two dogs don't run.",
    'She says: "Come in!"',
    "A dog sleeps.",
]
FRENCH = [
    "Un homme dort.",
    "Deux chiens ne courent pas.",
    "Elle dit : « Entrez ! »",
    "Un chien dort.",
]


def texts(count: int = 40) -> tuple[list[str], list[str]]:
    return [ENGLISH[k % 4] for k in range(count)], [FRENCH[k % 4] for k in range(count)]


def written(folder: Path, source: str | bytes, target: str | bytes) -> str:
    for name, text in (("a.en", source), ("a.fr", target)):
        content = text if isinstance(text, bytes) else text.encode()
        (folder / name).write_bytes(content)
    return f"translation:source={folder / 'a.en'},target={folder / 'a.fr'}"


def of_lines(folder: Path, source: list[str], target: list[str]) -> str:
    return written(folder, "\n".join(source) + "\n", "\n".join(target))


def small(**options) -> Translation:
    return Translation(
        dict.fromkeys(("training", "validation", "test"), Parallel(*texts(4))), **options
    )


def test_two_files_become_three_splits_that_share_no_line(tmp_path: Path) -> None:
    source = [f"line {k}" for k in range(100)]
    task = TASKS.build(
        of_lines(tmp_path, source, [f"ligne {k}" for k in range(100)]) + ",least-count=1"
    )
    seen = []
    for split, count in (("training", 90), ("validation", 5), ("test", 5)):
        lines = task.texts[split]
        assert len(lines.source) == len(task.pairs[split]) == count
        for s, t in zip(*lines, strict=True):
            assert t.split()[1] == s.split()[1]
        seen += lines.source
    assert sorted(seen) == sorted(source)
    again = TASKS.build(
        of_lines(tmp_path, source, [f"ligne {k}" for k in range(100)]) + ",least-count=1"
    )
    assert again.texts == task.texts


@pytest.mark.parametrize("tokens", ["words", "characters", "subwords"])
def test_symbols_decode_to_the_lines_they_were_made_of(tokens: str) -> None:
    if tokens == "subwords":
        pytest.importorskip("tokenizers")
    task = small(tokens=tokens)
    for side, lines in zip(("source", "target"), texts(4), strict=True):
        vocabulary = task.vocabularies[side]
        assert [vocabulary.decode(vocabulary.encode(line)) for line in lines] == lines
    batch = next(task.batches("test", 4))
    for row in range(4):
        target = batch.targets[:, row]
        symbols = target[target >= 0].tolist()
        assert symbols[-1] == task.end
        assert batch.inputs[0, row] == task.begin
        assert batch.inputs[1 : len(symbols), row].tolist() == symbols[:-1]
        assert task.vocabularies["target"].decode(symbols[:-1]) in FRENCH


def test_a_rare_word_is_unknown_and_counts_are_those_of_training_lines(tmp_path: Path) -> None:
    source, target = texts(40)
    (tmp_path / "v.en").write_text("zebra dog\n" * 5)
    (tmp_path / "v.fr").write_text("zebre chien\n" * 5)
    held = f",validation-source={tmp_path / 'v.en'},validation-target={tmp_path / 'v.fr'}"
    task = TASKS.build(of_lines(tmp_path, source, target) + held)
    vocabulary = task.vocabularies["source"]
    assert task.texts["validation"].source == ["zebra dog"] * 5
    assert vocabulary.decode(vocabulary.encode("zebra dog")) == "<unk> dog"


def test_bleu_is_sacrebleus_on_detokenised_text() -> None:
    """Against the package itself, called by hand; a perfect translation has 100."""
    import sacrebleu

    task = small()
    assert task.judge(FRENCH, "test")["bleu"] == pytest.approx(100)
    given = [*FRENCH[:3], "Un chien dort sur un lit."]
    found = task.judge(given, "test")
    assert found["bleu"] == pytest.approx(sacrebleu.corpus_bleu(given, [FRENCH]).score)
    assert found["chrf"] == pytest.approx(sacrebleu.corpus_chrf(given, [FRENCH]).score)
    assert "tok:13a" in task.signatures["bleu"]
    assert "case:mixed" in task.signatures["bleu"]
    lower = small(lower_case=True)
    assert lower.judge([line.lower() for line in FRENCH], "test")["bleu"] == pytest.approx(100)
    assert "case:lc" in lower.signatures["bleu"]


def test_a_trained_model_translates_its_training_lines() -> None:
    task = small()
    torch.manual_seed(0)
    model = build_model("attention:cell=gru,hidden=24,embedding=16", task.inputs, task.answers)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for batch, _ in zip(task.batches("training", 4), range(60), strict=False):
        optimizer.zero_grad()
        task.score(model, batch, step=0).loss.backward()
        optimizer.step()
    found = task.examine(model.eval(), "test")
    assert found["bleu"] == pytest.approx(100)
    assert found["chrf"] == pytest.approx(100)


def test_long_pairs_are_left_out_of_training_alone() -> None:
    task = small(longest=6)
    assert len(task.pairs["training"]) == 2
    assert len(task.pairs["test"]) == 4
    with pytest.raises(tt.errors.DataError, match="expected one of at most 1 symbols"):
        small(longest=1)


@pytest.mark.parametrize(
    ("source", "target", "words"),
    [
        ("a\n" * 30, "b\n" * 29, r"a\.fr: got 30 and 29 lines, expected equal numbers"),
        ("a\n" * 30, "b\n" * 12 + "  \n" + "b\n" * 17, "line 13 of the target: got an empty line"),
        ("a\n" * 30 + "\n", "b\n" * 30 + "\n", "line 31 of the source: got an empty line"),
        (b"caf\xe9\n" * 30, "b\n" * 30, r"a\.en: got 'utf-8' codec.*iconv -f LATIN1"),
        ("a\n" * 19, "b\n" * 19, "got 19 lines, expected at least 20"),
        ("", "", "line 1 of the source: got an empty line"),
    ],
    ids=["unequal", "blank", "blank at both ends", "latin-1", "few", "nothing"],
)
def test_files_that_are_no_parallel_texts_are_refused(tmp_path, source, target, words) -> None:
    with pytest.raises(tt.errors.DataError, match=words):
        TASKS.build(written(tmp_path, source, target))


def test_windows_lines_marks_and_gzip_are_read(tmp_path: Path) -> None:
    source, target = texts(40)
    spec = written(
        tmp_path, "\ufeff" + "\r\n".join(source), gzip.compress("\n".join(target).encode())
    )
    task = TASKS.build(spec)
    lines = [line for text in task.texts.values() for line in text.source]
    assert sorted(lines) == sorted(source)


@pytest.mark.parametrize(
    ("spec", "error", "words"),
    [
        ("translation", tt.errors.ConfigurationError, "source of task 'translation': got no file"),
        ("translation:source=a.en", tt.errors.DataError, "a.en cannot be read"),
        ("translation:sha256=xyz", tt.errors.ConfigurationError, "16 to 64 hexadecimal digits"),
        ("multi30k:source=en,target=en", tt.errors.ConfigurationError, "got en twice"),
        ("multi30k:source=es", tt.errors.ConfigurationError, "expected one of en, de, fr"),
    ],
)
def test_options_that_do_not_fit_are_refused(spec: str, error, words: str) -> None:
    with pytest.raises(error, match=words):
        TASKS.build(spec)


def test_only_words_are_lower_cased() -> None:
    with pytest.raises(tt.errors.ConfigurationError, match="lower_case: got tokens=characters"):
        small(tokens="characters", lower_case=True)
    with pytest.raises(tt.errors.DataError, match="translations: got 1 lines, expected 4"):
        small().judge(["a"], "test")


def test_the_checksum_of_both_files_is_part_of_a_run(tmp_path: Path) -> None:
    spec = of_lines(tmp_path, *texts(40))
    config = with_checksum(RunConfig(task=spec, model="gru"))
    assert ",sha256=" in config.task
    assert with_checksum(config) == config
    TASKS.build(config.task)
    (tmp_path / "a.fr").write_text("\n".join(["Autre chose."] * 40))
    with pytest.raises(tt.errors.DataError, match="got SHA-256"):
        TASKS.build(config.task)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sacrebleu.metrics", None)
    with pytest.raises(
        tt.errors.ConfigurationError, match=r"pip install 'throughtime\[translation\]'"
    ):
        small()


@pytest.fixture
def multi30k(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tiny Multi30k, with its sums."""
    sums = {}
    for file in ("train", "val", "test_2016_flickr"):
        for language, lines in (("en", ENGLISH), ("fr", FRENCH)):
            content = "\n".join(lines).encode() + b"\n"
            (tmp_path / f"{file}.{language}.gz").write_bytes(gzip.compress(content))
            sums[f"{file}.{language}"] = ("", hashlib.sha256(content).hexdigest())
    monkeypatch.setattr(parallel_texts, "_SUMS", sums)
    return tmp_path


def test_multi30k_is_read_from_a_folder(multi30k: Path) -> None:
    task = TASKS.build("multi30k:least-count=1", data_dir=str(multi30k))
    assert task.name == "multi30k"
    assert list(task.texts["test"].target) == FRENCH
    assert task.vocabularies["source"].decode(task.pairs["test"][0][0]) == ENGLISH[0].lower()


def test_another_file_than_multi30ks_is_refused(multi30k: Path) -> None:
    (multi30k / "val.en").write_text("Something else.\n" * 4)
    with pytest.raises(tt.errors.DataError, match=r"val\.en: got SHA-256"):
        TASKS.build("multi30k", data_dir=str(multi30k))
    with pytest.raises(tt.errors.DataError, match=r"got no such folder, expected train\.en"):
        TASKS.build("multi30k", data_dir=str(multi30k / "none"))
