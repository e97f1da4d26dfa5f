"""Names and paths are printed as they are, whatever is in them."""

import io

import pytest
from rich.table import Table
from rich.text import Text

from throughtime.cli.main import main
from throughtime.cli.output import LiteralConsole, remark
from throughtime.core.escaping import escaped

HOSTILE = "a[/x] [bold]b :smile: \\[c] \x1b[2J \u202etxt\ud800"
SHOWN = "a[/x] [bold]b :smile: \\[c] \\x1b[2J \\u202etxt\\ud800"


@pytest.mark.parametrize("live", [True, False])
def test_everything_that_is_printed_is_literal(live: bool) -> None:
    stream = io.StringIO()
    console = LiteralConsole(file=stream, width=200, force_terminal=live)
    table = Table(HOSTILE, title=HOSTILE)
    table.add_row(HOSTILE)
    for thing in (HOSTILE, Text(HOSTILE), table):
        console.print(thing)
    printed = stream.getvalue()
    assert printed.count(SHOWN) == 5
    printed.encode()
    assert ("\x1b" in printed) == live  # colours, where there are any


def test_escaped_leaves_ordinary_text_alone() -> None:
    text = "häagen\tdazs\n日本 👩\u200d🔬"
    assert escaped(text) == text
    assert escaped("\r\x00\x7f\x85\u2028\ufffe") == r"\r\x00\x7f\x85\u2028\ufffe"


@pytest.mark.parametrize("name", ["[lr=1]", "[/x]", "[bold]a", ":smile:"])
def test_paths_are_printed_as_they_are(name: str, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / f"{name}.svg").parent.mkdir(exist_ok=True)
    assert main(["complexity", "sh", "--out", f"{name}.svg"]) == 0
    assert capsys.readouterr().out.endswith(f"picture: {name}.svg\n")
    assert (tmp_path / f"{name}.svg").is_file()
    assert main(["complexity", f"{name}\x1b[2J.yaml"]) == 1
    assert f"error: {name}\\x1b[2J.yaml: got " in capsys.readouterr().err.replace("\n", " ")
    assert main(["diagnose", name]) == 2
    assert name in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["complexity", "sh", "--out", ""], "--out: got an empty text, expected a value"),
        (["complexity", "sh", "--out="], "--out: got an empty text, expected a value"),
        (["complexity", ""], "complexity: got an empty text"),
        (["train", "adding", "rnn", "--out", "a\0b"], r"got 'a\x00b', expected text without \0"),
    ],
)
def test_words_that_no_option_takes(words, said, capsys, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", ["train adding rnn --steps 1", "complexity sh"])
def test_names_that_are_too_long(command: str, capsys, tmp_path) -> None:
    assert main([*command.split(), "--out", str(tmp_path / ("x" * 300))]) == 1
    assert "File name too long. Choose a shorter name." in capsys.readouterr().err.replace("\n", "")


def test_a_name_within_a_file_never_leads_out_of_the_folder(tmp_path, monkeypatch, capsys) -> None:
    (tmp_path / "in").mkdir()
    monkeypatch.chdir(tmp_path / "in")
    names = ["../victim", "/tmp/victim", "..", "a/b\\\\c", "\\x1b[2J", "x" * 500, ".hidden"]
    for name in names:
        edges = '[["input","h"],["h","h",1],["h","output"]]'
        with open("a.yaml", "w", encoding="utf-8") as file:
            file.write(f'{{"name": "{name}", "edges": {edges}}}')
        assert main(["complexity", "a.yaml"]) == 0
        assert "\x1b" not in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["in"]
    found = sorted(path.name for path in (tmp_path / "in").iterdir())
    pictures = ["victim", "tmp-victim", "architecture", "a-b-c", "x1b-2J", "x" * 60, "hidden"]
    pictures[4] = "2J"
    assert found == sorted(["a.yaml", *(f"{name}.svg" for name in pictures)])


def test_remark_is_one_line_where_there_is_no_terminal(capsys) -> None:
    text = "units of a model " * 12 + "end"
    remark(text)
    assert capsys.readouterr().err == f"{text}\n"
