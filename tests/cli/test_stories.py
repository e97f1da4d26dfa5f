"""Stories on the command line: a run, what other commands say of it, and errors in words."""

from pathlib import Path

import pytest

from throughtime.cli.main import main

STORY = "1 Anna went to the attic.\n2 Where is Anna?\tattic\t1\n"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stories")
    (folder / "qa.txt").write_text(STORY * 20)
    task = f"babi:file={folder / 'qa.txt'}"
    words = ["--steps", "2", "--out", str(folder / "run"), "--quiet", "--batch-size", "4"]
    assert main(["train", task, "memn2n:hidden=4", *words]) == 0
    return folder / "run"


@pytest.mark.parametrize(
    ("command", "code", "message"),
    [
        (["sample"], 1, "continues no text: got MemN2N"),
        (["chat"], 1, "does not talk: got MemN2N"),
        (["diagnose"], 2, "the model to diagnose: got MemN2N, which has no recurrent layer"),
        (["inspect"], 2, "the model to inspect: got MemN2N, which has no recurrent layer"),
    ],
)
def test_what_a_memory_network_cannot_do_is_refused(
    run: Path, capsys: pytest.CaptureFixture[str], command: list[str], code: int, message: str
) -> None:
    assert main([*command, str(run)]) == code
    shown = " ".join(capsys.readouterr().err.split())
    assert message in shown
    assert "Traceback" not in shown


@pytest.mark.parametrize(
    ("content", "model", "code", "message"),
    [
        (None, "memn2n", 1, "qa.txt: got No such file or directory"),
        ("Where is Anna?\n", "memn2n", 1, "qa.txt, line 1: got 'Where is Anna?', expected NUMBER"),
        (STORY, "memn2n", 1, "training stories: got 1, expected at least 10"),
        (STORY * 20, "memn2n:hops=0", 2, "hops of a memory network: got 0, expected at least 1"),
        (STORY.replace("\t1\n", "\t\n") * 20, "memory-network", 2, "Choose memn2n, which learns"),
    ],
)
def test_inputs_that_are_refused_in_words(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    content: str | None,
    model: str,
    code: int,
    message: str,
) -> None:
    if content is not None:
        (tmp_path / "qa.txt").write_text(content)
    task = f"babi:file={tmp_path / 'qa.txt'}"
    assert main(["train", task, model, "--steps", "1", "--out", str(tmp_path / "run")]) == code
    shown = " ".join(capsys.readouterr().err.split())
    assert message in shown
    assert "Traceback" not in shown
