"""The model and the vocabulary of a run, without its text."""

import dataclasses
from pathlib import Path

import pytest
import torch
from training.tiny import tiny

from throughtime import Sampling, generate
from throughtime.core.errors import RunError, RunMismatchError, RunVersionError
from throughtime.tasks import CharacterVocabulary, Text, WordVocabulary
from throughtime.training import load_generator, load_model, read_json, train, write_json
from throughtime.training import run as run_module

LINES = "the cat sat on the mat\nthe dog ran to the cat\n" * 20
MODEL = "language-model:cell=gru,hidden=4,embedding=4,tied=true,dropout=0.2"


def written(folder: Path, tokens: str = "words") -> str:
    (folder / "my.txt").write_text(LINES)
    return f"text:length=5,file={folder / 'my.txt'},tokens={tokens}"


@pytest.mark.parametrize(
    ("tokens", "kind"), [("words", WordVocabulary), ("characters", CharacterVocabulary)]
)
def test_a_generator_needs_no_training_data(tmp_path: Path, tokens: str, kind: type) -> None:
    train(tiny(task=written(tmp_path, tokens), model=MODEL), tmp_path / "run")
    _, task, expected = load_model(tmp_path / "run")
    assert isinstance(task, Text)
    (tmp_path / "my.txt").unlink()
    model, vocabularies, _ = load_generator(tmp_path / "run")
    assert vocabularies == {"text": task.vocabulary}
    assert isinstance(vocabularies["text"], kind)
    assert not model.training
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, expected.state_dict()[name])
    prompt = torch.tensor(vocabularies["text"].encode("the cat", prompt=True))[:, None]
    drawn = generate(model, prompt, 9, Sampling(0.0))
    assert drawn.shape == (9, 1)
    assert isinstance(vocabularies["text"].decode(drawn[:, 0].tolist()), str)


def test_a_vocabulary_that_does_not_fit_the_run(tmp_path: Path) -> None:
    config = tiny(task=written(tmp_path), model=MODEL)
    train(config, tmp_path / "run")
    file = tmp_path / "run" / "vocabulary.json"
    document = read_json(file)
    symbols = document["vocabularies"]["text"]["symbols"]
    symbols[2], symbols[3] = symbols[3], symbols[2]
    write_json(file, document)
    more = dataclasses.replace(config, steps=config.steps + 1)
    with pytest.raises(
        RunMismatchError,
        match="was trained with another vocabulary, or on data of another size: got 10",
    ):
        train(more, tmp_path / "run")
    document["inputs"]["alphabet"] += 1
    document["vocabularies"]["text"]["symbols"] = [*symbols, "more"]
    write_json(file, document)
    with pytest.raises(RunMismatchError, match="does not fit model 'language-model"):
        load_generator(tmp_path / "run")


def test_a_run_of_before_there_were_vocabularies_gets_one(tmp_path: Path) -> None:
    config = tiny(task=written(tmp_path), model=MODEL)
    train(config, tmp_path / "run")
    file = tmp_path / "run" / "vocabulary.json"
    before = file.read_bytes()
    file.unlink()
    train(dataclasses.replace(config, steps=config.steps + 1), tmp_path / "run")
    assert file.read_bytes() == before


def test_a_run_that_generates_nothing(tmp_path: Path) -> None:
    train(tiny(model="rnn:hidden=3"), tmp_path / "run")
    assert not (tmp_path / "run" / "vocabulary.json").exists()
    message = (
        "has nothing to generate: got a run of model 'rnn:hidden=3' on task 'digits.*expected a "
        "run on a text.*This run can be measured: throughtime inspect"
    )
    with pytest.raises(RunError, match=message):
        load_generator(tmp_path / "run")
    with pytest.raises(RunError, match=r"config\.json"):
        load_generator(tmp_path / "none")


@pytest.mark.parametrize(
    "change",
    [
        {"vocabularies": None},
        {"vocabularies": {"text": {"kind": "letters"}}},
        {"inputs": {"type": "Words", "alphabet": 3}},
        {"answers": None},
    ],
)
def test_a_vocabulary_file_that_is_damaged(tmp_path: Path, change: dict[str, object]) -> None:
    train(tiny(task=written(tmp_path), model=MODEL, steps=1), tmp_path / "run")
    file = tmp_path / "run" / "vocabulary.json"
    write_json(file, read_json(file) | change)
    with pytest.raises(RunError, match=r"vocabulary\.json is damaged: got"):
        load_generator(tmp_path / "run")
    file.write_text('{"schema_version": 99}')
    with pytest.raises(RunVersionError):
        load_generator(tmp_path / "run")
    file.write_text('{"schema')
    with pytest.raises(RunError, match="is not whole"):
        load_generator(tmp_path / "run")


def test_a_process_that_is_killed_while_it_writes_the_vocabulary(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is whole or absent, and the same call goes on."""
    config = tiny(task=written(tmp_path), model=MODEL)

    def cut(files, task):
        (files.path / "vocabulary.json.tmp").write_text('{"vocab')
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(run_module, "write_vocabularies", cut)
        with pytest.raises(KeyboardInterrupt):
            train(config, tmp_path / "run")
    train(config, tmp_path / "run")
    assert not (tmp_path / "run" / "vocabulary.json.tmp").exists()
    load_generator(tmp_path / "run")
