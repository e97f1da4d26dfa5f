"""`throughtime chat` and `throughtime judge`, on a run that counts."""

import io
import json
from pathlib import Path

import pytest
import torch

from throughtime.cli.main import main
from throughtime.models import DialogueModel, NearestReplies, Sampling, build_model, reply
from throughtime.tasks import CountingDialogue
from throughtime.tasks.vocabulary import WordVocabulary
from throughtime.training import load_generator
from throughtime.training.dialogue_answers import contexts_of


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two short runs on dialogues, and one that is none."""
    folder = tmp_path_factory.mktemp("chat")
    options = ["--steps", "4", "--batch-size", "4", "--quiet"]
    for name, task, model in (
        ("hred", "counting-dialogue:turns=3", "gru:hidden=8"),
        ("vhred", "counting-dialogue:turns=3", "vhred:cell=gru,hidden=8,latent=3"),
        ("reverse", "reverse:longest=4", "gru:hidden=4"),
    ):
        words = ["train", task, model, *options, "--out", str(folder / name)]
        assert main(words) == 0
    return folder


def said(monkeypatch, capsys, text: str, *words: str) -> list[str]:
    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    capsys.readouterr()
    assert main(["chat", *words]) == 0
    lines = capsys.readouterr().out.split("\n")
    assert lines.pop() == ""
    return lines


@pytest.mark.parametrize("name", ["hred", "vhred"])
def test_a_reply_follows_from_the_whole_dialogue(runs: Path, name, monkeypatch, capsys) -> None:
    model, vocabularies, _ = load_generator(runs / name)
    assert isinstance(model, DialogueModel)
    typed = ["two cups", "", "six", "  \t", "/reset", "six"]
    found = said(monkeypatch, capsys, "\n".join(typed), str(runs / name), "--steps", "5")
    assert len(found) == 3
    expected, spoken = [], []
    for line in ("two cups", "six"):
        spoken.append(line)
        seed = len(spoken)
        spoken += reply(model, vocabularies["dialogue"], [spoken], Sampling(), steps=5, seed=seed)
        expected.append(spoken[-1])
    alone = reply(model, vocabularies["dialogue"], [["six"]], Sampling(), steps=5, seed=1)
    assert found == [*expected, *alone]
    again = said(monkeypatch, capsys, "\n".join(typed) + "\n", str(runs / name), "--steps", "5")
    assert again == found


def test_a_search_takes_the_place_of_draws(runs: Path, monkeypatch, capsys) -> None:
    given = (str(runs / "hred"), "--steps", "3")
    greedy = said(monkeypatch, capsys, "two cups\n", *given, "--temperature", "0", "--seed", "3")
    assert said(monkeypatch, capsys, "two cups\n", *given, "--beam", "1") == greedy


def test_the_end_of_the_input_ends(runs: Path, monkeypatch, capsys) -> None:
    assert said(monkeypatch, capsys, "", str(runs / "hred")) == []


def test_a_reply_does_not_depend_on_the_dialogues_beside_it() -> None:
    task = CountingDialogue()
    torch.manual_seed(0)
    contexts = [["two cups"], ["one", "six hats", "two eggs"], ["nine"]]
    for name in ("hred", "vhred"):
        model = build_model(f"{name}:cell=gru,hidden=9", task.inputs, task.answers).eval()
        for strategy in (None, Sampling()):
            together = reply(model, task.vocabulary, contexts, strategy, steps=9, seed=4)
            alone = [
                reply(model, task.vocabulary, [c], strategy, steps=9, seed=4)[0] for c in contexts
            ]
            assert together == alone


def test_what_cannot_be_answered_is_refused() -> None:
    task = CountingDialogue()
    model = build_model("hred:cell=gru,hidden=4", task.inputs, task.answers).eval()
    with pytest.raises(ValueError, match="steps of a reply: got 0"):
        reply(model, task.vocabulary, [["a"]], steps=0)
    with pytest.raises(ValueError, match="a dialogue: got no utterance"):
        reply(model, task.vocabulary, [["a"], []])
    with pytest.raises(ValueError, match="expected the model's 21"):
        reply(model, WordVocabulary.of("a b", begin=True), [["a"]])


def failed(capsys, *words: str, code: int) -> str:
    capsys.readouterr()
    assert main(list(words)) == code
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "Traceback" not in shown.err
    return " ".join(shown.err.split())


def test_a_run_of_another_kind_does_not_talk(runs: Path, capsys) -> None:
    run = str(runs / "reverse")
    message = failed(capsys, "chat", run, code=1)
    assert "does not talk" in message
    assert "expected a run on dialogues" in message
    assert "has no dialogues" in failed(capsys, "judge", run, str(runs / "hred"), code=1)
    message = failed(capsys, "judge", str(runs / "hred"), run, "--contexts", "2", code=1)
    assert "answers no dialogues" in message
    message = failed(capsys, "sample", str(runs / "hred"), code=1)
    assert f"A model of dialogues talks: throughtime chat {runs / 'hred'}" in message
    assert "throughtime chat" in failed(capsys, "translate", str(runs / "hred"), code=1)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--steps", "0"], "--steps: got 0"),
        (["--temperature", "-1"], "temperature: got -1"),
        (["--beam", "0"], "width of the beam"),
        (["--top-p", "0"], "top_p"),
    ],
)
def test_options_out_of_range_are_refused(runs: Path, capsys, words, told) -> None:
    assert told in failed(capsys, "chat", str(runs / "hred"), *words, code=2)


def test_an_input_of_another_encoding_is_refused(runs: Path, monkeypatch, capsys) -> None:
    latin = io.TextIOWrapper(io.BytesIO("h\u00e9\n".encode("latin-1")), encoding="utf-8")
    monkeypatch.setattr("sys.stdin", latin)
    message = failed(capsys, "chat", str(runs / "hred"), code=1)
    assert "standard input" in message
    assert "expected text in UTF-8" in message


def test_two_runs_give_a_page_and_their_answers(runs: Path, tmp_path: Path, capsys) -> None:
    page, answers = tmp_path / "page.html", tmp_path / "answers"
    sides = [str(runs / "hred"), str(runs / "vhred")]
    options = ["--contexts", "5", "--steps", "4", "--answers", str(answers)]
    assert main(["judge", *sides, *options, "--out", str(page)]) == 0
    assert str(page) in capsys.readouterr().out
    first = page.read_bytes()
    a, b = (json.loads((answers / name).read_text()) for name in ("a.json", "b.json"))
    assert a["model"] == "gru:hidden=8 seed 0"
    assert [x["context"] for x in a["answers"]] == [x["context"] for x in b["answers"]]
    assert len(a["answers"]) == 5
    # from the files, or from a file and a run: the same page
    files = [str(answers / "a.json"), str(answers / "b.json")]
    assert main(["judge", *files, "--out", str(page)]) == 0
    assert page.read_bytes() == first
    assert main(["judge", files[0], sides[1], "--steps", "4", "--out", str(page)]) == 0
    assert page.read_bytes() == first
    assert main(["judge", sides[0], "tfidf", "--contexts", "4", "--out", str(page)]) == 0
    assert "tfidf" in page.read_text()


def test_judgements_are_read_as_a_table(tmp_path: Path, capsys) -> None:
    votes = [{"context": k, "length": "short", "first": "a", "vote": "a"} for k in range(3)]
    document = {"schema_version": 1, "a": "x", "b": "y", "task": "t", "seed": 0, "votes": votes}
    files = [str(tmp_path / name) for name in ("1.json", "2.json")]
    for file in files:
        Path(file).write_text(json.dumps(document))
    assert main(["judge", "--read", *files]) == 0
    assert "x vs y on t" in capsys.readouterr().out
    assert main(["judge", "--read", *files, "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["preferences"]
    assert row["votes"] == 6
    assert row["wins"] == {"share": 1.0, "half_width": 0.0}
    (tmp_path / "3.json").write_text("{}")
    assert "holds no judgement" in failed(
        capsys, "judge", "--read", *files, str(tmp_path / "3.json"), code=1
    )
    assert "files of judgements alone" in failed(capsys, "judge", "x", "--read", files[0], code=2)


def test_sides_that_do_not_fit_are_refused(runs: Path, tmp_path: Path, capsys) -> None:
    run = str(runs / "hred")
    assert "fewer than two sides" in failed(capsys, "judge", run, code=2)
    out = ["--out", str(tmp_path / "x.html")]
    message = failed(capsys, "judge", run, run, "--contexts", "2", "--steps", "2", *out, code=1)
    assert "expected two models with different names" in message
    message = failed(capsys, "judge", run, "tfidf", "--contexts", "1", *out, code=2)
    assert "number of contexts: got 1" in message
    assert "No such file" in failed(capsys, "judge", run, str(tmp_path / "a.json"), *out, code=1)
    assert "tfidf without a run" in failed(capsys, "judge", "tfidf", "tfidf", *out, code=2)
    assert not (tmp_path / "x.html").exists()


def test_contexts_are_beginnings_half_of_them_short() -> None:
    task = CountingDialogue(turns=6)
    dialogues = {tuple(d) for d in task.spoken("test")}
    found = contexts_of(task, "test", 31, seed=1)
    assert len(set(found)) == 31
    for context in found:
        assert any(d[: len(context)] == context and len(context) < len(d) for d in dialogues)
    assert found == contexts_of(task, "test", 31, seed=1)
    assert found != contexts_of(task, "test", 31, seed=2)
    lengths = [len(context) for context in found]
    assert max(lengths[:15]) <= min(lengths[15:])
    assert len(contexts_of(task, "test", 10_000)) <= 500


def test_retrieval_gives_the_reply_to_the_most_similar_context() -> None:
    nearest = NearestReplies([["a cat sleeps", "it is old", "a dog barks"], ["two boats", "red"]])
    found = nearest([["boats"], ["cat"], ["a cat sleeps", "it is old"], ["nothing known"]])
    assert found == ["red", "it is old", "a dog barks", "it is old"]
    with pytest.raises(ValueError, match="training dialogues"):
        NearestReplies([["?", "!"]])


def test_without_scikit_learn_there_is_no_retrieval(monkeypatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "sklearn.feature_extraction.text", None)
    with pytest.raises(ValueError, match=r"pip install 'throughtime\[retrieval\]'"):
        NearestReplies([["a b", "c"]])
