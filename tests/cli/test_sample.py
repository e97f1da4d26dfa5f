"""`throughtime sample`: text as it is drawn, and what it refuses."""

import json
import shutil

import pytest
import torch

from throughtime.cli.main import main
from throughtime.models import Beam, Sampling, beam_search, generate
from throughtime.training import RunConfig, load_generator, train

TEXT = "to be, or not to be, that is the question:\nwhether 'tis nobler in the mind.\n" * 20


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("sample")
    (place / "text.txt").write_text(TEXT)
    for tokens in ("characters", "words"):
        train(
            RunConfig(
                task=f"text:file={place / 'text.txt'},length=6,tokens={tokens}",
                model="gru:hidden=8,engine=eager",
                steps=20,
                batch_size=4,
                learning_rate=0.02,
            ),
            place / tokens,
        )
    train(RunConfig(task="adding:length=20", model="gru:hidden=4", steps=1), place / "adding")
    return place


def sample(capsys, *words: str) -> str:
    assert main(["sample", *words]) == 0
    return capsys.readouterr().out


def test_characters_are_those_of_generate(folder, capsys) -> None:
    run = folder / "characters"
    shown = sample(capsys, str(run), "--prompt", "to be", "--steps", "30", "--seed", "5")
    model, vocabularies, _ = load_generator(run)
    vocabulary = vocabularies["text"]
    prompt = torch.tensor(vocabulary.encode("to be"))[:, None]
    drawn = generate(model, prompt, 30, seeds=[5])[:, 0].tolist()
    assert shown == "to be" + vocabulary.decode(drawn) + "\n"
    again = sample(capsys, str(run), "--prompt", "to be", "--steps", "30", "--seed", "5")
    assert again == shown
    greedy = sample(capsys, str(run), "--prompt", "to be", "--steps", "90", "--temperature", "0")
    drawn = generate(model, prompt, 90, Sampling(0.0))[:, 0].tolist()
    assert greedy == "to be" + vocabulary.decode(drawn) + "\n"
    assert len(sample(capsys, str(run), "--steps", "7")) == 8  # after a line break


def test_words_stand_between_blanks_and_sentences_end(folder, capsys) -> None:
    run = folder / "words"
    model, vocabularies, _ = load_generator(run)
    vocabulary = vocabularies["text"]
    told = json.loads(sample(capsys, str(run), "--steps", "80", "--json"))
    assert len(told["symbols"]) == 80
    assert told["text"] == vocabulary.decode([vocabulary.end, *told["symbols"]])[1:]
    one = json.loads(sample(capsys, str(run), "--steps", "80", "--stop", "--json"))
    place = told["symbols"].index(vocabulary.end)
    assert one["symbols"] == told["symbols"][:place]
    prompt = torch.tensor(vocabulary.encode("whether 'tis"))[:, None]
    (found,) = beam_search(model, prompt, 5, Beam(3, 1.0))
    beam = sample(
        capsys,
        str(run),
        *("--prompt", "whether 'tis", "--steps", "5"),
        *("--beam", "3", "--length-penalty", "1"),
    )
    assert beam == vocabulary.decode([*prompt[:, 0].tolist(), *found[0].symbols]) + "\n"


def test_unknown_words_of_a_prompt_are_one_symbol(folder, capsys) -> None:
    """They are shown as they were given."""
    told = json.loads(sample(capsys, str(folder / "words"), "--prompt", "to zebra", "--json"))
    assert told["prompt"] == "to zebra"
    model, vocabularies, _ = load_generator(folder / "words")
    numbers = vocabularies["text"].encode("to zebra")
    assert numbers[1] == vocabularies["text"].unknown
    drawn = generate(model, torch.tensor(numbers)[:, None], 400, seeds=[0])[:, 0].tolist()
    assert told["symbols"] == drawn


def test_a_vocabulary_that_does_not_fit_the_run(folder, tmp_path, capsys) -> None:
    run = tmp_path / "run"
    shutil.copytree(folder / "characters", run)
    shutil.copy(folder / "words" / "vocabulary.json", run)
    assert main(["sample", str(run)]) == 1
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("throughtime: error: ")
    assert "Traceback" not in told.err


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["characters", "--prompt", "Ω"], 2, "'Ω'"),
        (["characters", "--prompt", ""], 2, "--prompt"),
        (["words", "--prompt", ""], 2, "--prompt"),
        (["words", "--prompt", "  "], 2, "--prompt"),
        (["characters", "--steps", "0"], 2, "--steps"),
        (["characters", "--beam", "0"], 2, "width"),
        (["characters", "--temperature", "-1"], 2, "temperature"),
        (["characters", "--top-p", "0"], 2, "top_p"),
        (["adding"], 1, "inspect"),
        (["nothing"], 1, "nothing"),
    ],
)
def test_what_is_refused(folder, capsys, words, code, message) -> None:
    assert main(["sample", str(folder / words[0]), *words[1:]]) == code
    told = capsys.readouterr().err
    assert message in told
    assert "Traceback" not in told
