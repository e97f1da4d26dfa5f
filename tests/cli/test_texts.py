"""Language models on the command line: what is shown, and inputs that are refused in words."""

from pathlib import Path

import pytest

from throughtime.cli.main import main
from throughtime.training import read_json

LINES = "the cat sat on the mat\nthe dog ran to the cat\n" * 60
MODEL = "language-model:cell=gru,hidden=8,embedding=8,tied=true"


def test_perplexity_static_and_dynamic(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "my.txt").write_text(LINES)
    task = f"text:file={tmp_path / 'my.txt'},tokens=words,length=5"
    words = ["--steps", "4", "--dynamic-rate", "0.1", "--out", str(tmp_path / "run"), "--quiet"]
    assert main(["train", task, MODEL, *words]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    test = read_json(tmp_path / "run" / "result.json")["test"]
    dynamic = f"dynamic perplexity {test['dynamic_perplexity']:.4g}"
    assert f"test perplexity {test['perplexity']:.4g}, loss {test['loss']:.4g}, {dynamic};" in shown
    assert set(test) == {"loss", "perplexity", "dynamic_loss", "dynamic_perplexity"}
    assert (tmp_path / "run" / "vocabulary.json").exists()


@pytest.mark.parametrize(
    ("content", "options", "model", "message"),
    [
        (None, "", MODEL, "my.txt: got No such file or directory, expected a text file in UTF-8"),
        (b"", "", MODEL, "my.txt: got no text, expected a text file"),
        ("é".encode("latin-1"), "", MODEL, "my.txt: got byte 0xe9 at place 0"),
        (b"\xff\xfea\x00", "", MODEL, "my.txt: got byte 0xff at place 0"),
        (b"too short", "", MODEL, "training text of task 'text': got 8 symbols"),
        (LINES.encode(), ",tokens=words,size=2", MODEL, "size of a vocabulary: got 2"),
        (LINES.encode(), ",tokens=word", MODEL, "Did you mean 'words' or"),
        (LINES.encode(), ",length=5", "language-model:embedding=3,tied=true", "tied weights: got"),
        (LINES.encode(), ",length=5", "language-model:cutoffs=99", "cutoffs: got 99"),
        (
            LINES.encode(),
            "",
            "gru:tied=true",
            "Name the one that fits the task: FAMILY:cell=gru,tied=...",
        ),
    ],
)
def test_inputs_that_are_refused_in_words(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    content: bytes | None,
    options: str,
    model: str,
    message: str,
) -> None:
    if content is not None:
        (tmp_path / "my.txt").write_bytes(content)
    task = f"text:file={tmp_path / 'my.txt'}{options}"
    wrong_data = "my.txt" in message or "training text" in message
    words = ["train", task, model, "--steps", "1", "--out", str(tmp_path / "run")]
    assert main(words) == (1 if wrong_data else 2)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("throughtime: error: ")
    assert message in " ".join(captured.err.split())
    assert "Traceback" not in captured.err
    assert not (tmp_path / "run").exists()


def test_every_task_and_model_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    shown = capsys.readouterr().out
    for name in ("penn-treebank", "text8", "language-model", "tokens=characters", "cutoffs="):
        assert name in shown
