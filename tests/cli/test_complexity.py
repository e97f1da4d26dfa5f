"""`throughtime complexity` in this process."""

import json
from xml.etree import ElementTree

import pytest

from throughtime.cli.main import main


def test_measures_and_picture(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["complexity", "td"]) == 0
    out = capsys.readouterr().out
    assert "input -> h1 -> h2 -> output" in out
    assert "h1 -> h2 -> h1 (lag 1)" in out
    picture = ElementTree.parse(tmp_path / "td.svg").getroot()
    assert picture.tag.endswith("svg")
    texts = [element.text for element in picture.iter() if element.tag.endswith("text")]
    assert texts.count("h1") == 5  # once in the cyclic graph, and at four steps
    assert {"t", "t-3", "lag 1", "deepest cycle"} <= set(texts)


def test_json_of_a_file(tmp_path, capsys) -> None:
    path = tmp_path / "mine.json"
    edges = [["input", "h"], ["h", "h", 2], ["h", "h", 5], ["h", "output"]]
    path.write_text(json.dumps({"edges": edges, "name": "<mine>"}))
    out = tmp_path / "mine.svg"
    assert main(["complexity", str(path), "--json", "--out", str(out)]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["recurrent_depth"] == {"value": "1/2", "shown_by": ["h -> h (lag 2)"]}
    assert document["skip_coefficient"]["value"] == "5"
    assert "&lt;mine&gt;" in out.read_text()


def test_lags_of_named_ones(capsys) -> None:
    assert main(["complexity", "variant-3", "--lag", "17", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["skip_coefficient"]["value"] == "17/2"


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["tdd"], 2, "Did you mean"),
        (["none.json"], 1, "none.json"),
        (["skip", "--lag", "1"], 2, "it is no skip"),
    ],
)
def test_what_is_wrong_is_said(words, code, said, capsys) -> None:
    assert main(["complexity", *words]) == code
    assert said in capsys.readouterr().err


def test_long_lags_are_in_the_picture(tmp_path) -> None:
    out = tmp_path / "skip.svg"
    assert main(["complexity", "skip", "--lag", "100", "--json", "--out", str(out)]) == 0
    assert ">lag 100<" in out.read_text()
