"""`throughtime translate`: a line for each line, and what other runs say."""

import io
import json
import shutil
from pathlib import Path

import pytest
import torch

from throughtime.cli.main import main
from throughtime.core.registry import CELLS
from throughtime.models import Beam, build_model, translate
from throughtime.tasks.kinds import Likelihood, Pairs, Tokens
from throughtime.tasks.vocabulary import CharacterVocabulary, WordVocabulary
from throughtime.training import load_generator, read_json

ENGLISH = ["A man sleeps.", "Two dogs run.", "A dog sleeps.", "Two men run."]
FRENCH = ["Un homme dort.", "Deux chiens courent.", "Un chien dort.", "Deux hommes courent."]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that knows its training lines by heart."""
    folder = tmp_path_factory.mktemp("translate")
    for name, lines in (("a.en", ENGLISH), ("a.fr", FRENCH)):
        (folder / name).write_text("\n".join(lines * 10) + "\n")
    task = f"translation:source={folder / 'a.en'},target={folder / 'a.fr'}"
    words = ["train", task, "attention:cell=gru,hidden=24,embedding=16", "--steps", "60"]
    words += ["--learning-rate", "0.02", "--batch-size", "16", "--quiet"]
    assert main([*words, "--out", str(folder / "run")]) == 0
    for name in ("a.en", "a.fr"):
        (folder / name).unlink()  # no training data is read
    return folder / "run"


def translated(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
    run: Path,
    text: str,
    *words: str,
) -> list[str]:
    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    capsys.readouterr()
    assert main(["translate", str(run), *words]) == 0
    return capsys.readouterr().out.split("\n")


def test_each_line_gives_a_line(trained: Path, monkeypatch, capsys) -> None:
    text = "\n".join([ENGLISH[2], "", ENGLISH[1], "   ", ENGLISH[0]])
    expected = [FRENCH[2], "", FRENCH[1], "", FRENCH[0], ""]
    assert translated(monkeypatch, capsys, trained, text) == expected
    options = ("--beam", "3", "--length-penalty", "1")
    assert translated(monkeypatch, capsys, trained, text, *options) == expected


def test_a_limit_of_length_cuts(trained: Path, monkeypatch, capsys) -> None:
    assert translated(monkeypatch, capsys, trained, ENGLISH[0], "--steps", "2") == ["Un homme", ""]


def test_an_unknown_word_is_one_symbol(trained: Path, monkeypatch, capsys) -> None:
    (line, rest) = translated(monkeypatch, capsys, trained, "A zebra sleeps.\n")
    assert line
    assert rest == ""


def test_no_line_gives_none(trained: Path, monkeypatch, capsys) -> None:
    assert translated(monkeypatch, capsys, trained, "") == [""]


def test_the_result_has_bleu_and_its_signature(trained: Path) -> None:

    result = read_json(trained / "result.json")
    assert result["test"]["bleu"] == pytest.approx(100)
    assert result["test"]["chrf"] == pytest.approx(100)
    assert "tok:13a" in result["signatures"]["bleu"]


@pytest.mark.parametrize(
    ("words", "message", "code"),
    [
        (["--beam", "0"], "width of the beam: got 0, expected a whole number of at least 1", 2),
        (["--steps", "0"], "--steps: got 0, expected at least 1", 2),
        (["--length-penalty", "-1"], "length_penalty: got -1.0", 2),
        (["--bean", "2"], "--bean", 2),
    ],
)
def test_options_out_of_range_are_refused(trained: Path, capsys, words, message, code) -> None:
    assert main(["translate", str(trained), *words]) == code
    assert message in " ".join(capsys.readouterr().err.split())


def test_runs_that_do_not_translate_say_so(tmp_path: Path, capsys) -> None:
    assert main(["translate", str(tmp_path / "none")]) == 1
    assert "none" in capsys.readouterr().err
    (tmp_path / "plays.txt").write_text("to be or not to be " * 60)
    texts = f"text:file={tmp_path / 'plays.txt'},length=5"
    for task, model, message in (
        ("reverse:longest=2", "gru:hidden=3", "does not translate: got EncoderDecoder"),
        ("tagging", "gru:hidden=3", "nothing to generate"),
        ("spelling:digits=2", "gru:hidden=3", "does not translate: got EncoderDecoder"),
        (texts, "gru:hidden=3", "does not translate: got LanguageModel"),
    ):
        run = tmp_path / task.partition(":")[0]
        assert main(["train", task, model, "--steps", "1", "--quiet", "--out", str(run)]) == 0
        assert main(["translate", str(run)]) == 1
        assert message in " ".join(capsys.readouterr().err.split())


def test_runs_that_do_not_continue_a_text_say_what_they_do(
    trained: Path, tmp_path: Path, capsys
) -> None:
    """`sample` on each kind of run names a use that the run has."""
    (tmp_path / "a.tags").write_text("a X\nb Y\n\n" * 40)
    for task, message in (
        ("spelling:digits=2", "model.encode(source)"),
        ("reverse:longest=2", "model.encode(source)"),
        ("tagging", "throughtime inspect"),
        (f"tagging:file={tmp_path / 'a.tags'}", "throughtime inspect"),
    ):
        run = tmp_path / task.replace("/", "-")
        words = [task, "gru:hidden=3", "--steps", "1", "--quiet", "--out", str(run)]
        assert main(["train", *words]) == 0
        for command in ("sample", "translate"):
            capsys.readouterr()
            assert main([command, str(run)]) == 1
            told = capsys.readouterr()
            assert message in " ".join(told.err.split())
            assert told.out == ""
    assert main(["sample", str(trained)]) == 1
    assert f"throughtime translate {trained} < FILE" in " ".join(capsys.readouterr().err.split())


def test_other_encodings_are_refused(trained: Path, monkeypatch, capsys) -> None:
    latin = io.TextIOWrapper(io.BytesIO("A café.\n".encode("latin-1")), encoding="utf-8")
    monkeypatch.setattr("sys.stdin", latin)
    assert main(["translate", str(trained)]) == 1
    assert "expected text in UTF-8" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("name", ["gru", "lstm", "skip-rnn"])
@pytest.mark.parametrize("beam", [Beam(1), Beam(3, 0.5)])
def test_a_translation_does_not_depend_on_the_lines_beside_it(name: str, beam: Beam) -> None:
    assert name in CELLS
    letters = CharacterVocabulary.of("abcde", ends=True)
    kinds = Pairs(Tokens(len(letters)), Tokens(len(letters)))
    lines = ["abcde", "e", "", "dab"]
    for spec in (f"{name}:hidden=6", f"attention:cell={name},hidden=6"):
        model = build_model(spec, kinds, Likelihood()).double().eval()
        together = translate(model, letters, letters, lines, beam, steps=6)
        alone = [translate(model, letters, letters, [line], beam, steps=6)[0] for line in lines]
        assert together == alone
        assert together[2] == ""


def test_vocabularies_and_lines_that_do_not_fit_are_refused(trained: Path) -> None:
    model, vocabularies, _ = load_generator(trained)
    source, target = vocabularies["source"], vocabularies["target"]
    other = WordVocabulary.of("a b", begin=True)
    with pytest.raises(ValueError, match="vocabulary of the target: got 5 symbols"):
        translate(model, source, other, ["A dog sleeps."])
    letters = CharacterVocabulary.of("abc", ends=True)
    with pytest.raises(ValueError, match="a character: got 'd'"):
        translate(model, letters, target, ["bad"])
    with pytest.raises(ValueError, match="steps of a translation: got 0"):
        translate(model, source, target, ["a"], steps=0)
    assert torch.is_grad_enabled()


def test_what_was_examined_is_shown(trained: Path, tmp_path: Path, capsys) -> None:
    """In the line of a run, in the table of a comparison, and in its CSV files."""
    for name, lines in (("a.en", ENGLISH), ("a.fr", FRENCH)):
        (tmp_path / name).write_text("\n".join(lines * 10) + "\n")
    task = f"translation:source={tmp_path / 'a.en'},target={tmp_path / 'a.fr'}"
    words = ["--steps", "1", "--quiet"]
    assert main(["train", task, "gru:hidden=3", *words, "--out", str(tmp_path / "run")]) == 0
    test = read_json(tmp_path / "run" / "result.json")["test"]
    shown = " ".join(capsys.readouterr().out.split())
    assert f"bleu {test['bleu']:.4g}, chrf {test['chrf']:.4g}; 1 steps" in shown
    words += ["--models", "gru:hidden=3", "--seeds", "1", "--out", str(tmp_path / "all")]
    assert main(["compare", "reverse:longest=2", *words]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines[:12])) <= 80
    (run,) = (tmp_path / "all").glob("*/seed-0/result.json")
    test = read_json(run)["test"]
    (row,) = [line for line in lines if line.startswith(" gru")]
    assert f"{100 * test['sequence_accuracy']:.1f} %" in row
    page = (tmp_path / "all" / "report.html").read_text()
    assert "test%20free%20running%20loss%2C%20mean" in page


@pytest.mark.parametrize(
    ("target", "model", "message", "code"),
    [
        (FRENCH[:3], "gru:hidden=3", "got 4 and 3 lines, expected equal numbers", 1),
        ([*FRENCH[:3], " "], "gru:hidden=3", "line 4 of the target: got an empty line", 1),
        (["é"] * 4, "gru:hidden=3", "expected a text file in UTF-8. Convert it: iconv", 1),
        (None, "gru:hidden=3", "b.fr cannot be read", 1),
        (FRENCH * 5, "language-model:cell=gru", "model 'language-model': got Pairs", 2),
        (FRENCH * 5, "readout:cell=gru", "model 'readout': got Likelihood", 2),
    ],
    ids=["unequal", "empty-line", "latin-1", "none", "language-model", "readout"],
)
def test_files_and_models_that_are_refused_in_words(
    tmp_path: Path, capsys, target: list[str] | None, model: str, message: str, code: int
) -> None:
    english = ENGLISH * (5 if target == FRENCH * 5 else 1)
    (tmp_path / "b.en").write_text("\n".join(english))
    if target is not None:
        encoding = "latin-1" if target[0] == "é" else "utf-8"
        (tmp_path / "b.fr").write_text("\n".join(target), encoding=encoding)
    task = f"translation:source={tmp_path / 'b.en'},target={tmp_path / 'b.fr'}"
    assert main(["train", task, model, "--steps", "1", "--out", str(tmp_path / "run")]) == code
    told = capsys.readouterr()
    assert told.out == ""
    assert message in " ".join(told.err.split())
    assert told.err.startswith("throughtime: error: ")
    assert "Traceback" not in told.err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("side", ["source", "target"])
def test_a_vocabulary_that_does_not_fit_the_run(
    trained: Path, tmp_path: Path, capsys, side
) -> None:
    """One of another run, whether the kinds were exchanged too or not."""
    for kinds in (False, True):
        run = tmp_path / str(kinds)
        shutil.copytree(trained, run)
        document = read_json(run / "vocabulary.json")
        document["vocabularies"][side]["symbols"].append("zebra")
        if kinds:
            document["inputs"][side]["alphabet"] += 1
        (run / "vocabulary.json").write_text(json.dumps(document))
        assert main(["translate", str(run)]) == 1
        told = capsys.readouterr()
        assert told.out == ""
        assert told.err.startswith("throughtime: error: ")
        assert "Traceback" not in told.err
