"""`throughtime sample` of runs on frames: pictures, MIDI files, and what it refuses."""

import json

import pytest

from throughtime.cli.main import main
from throughtime.training import RunConfig, train


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("frames")
    models = {
        "polygons": "vrnn:cell=gru,hidden=4,engine=eager,latent=2,features=4",
        "chords": "rnn-nade:cell=gru,hidden=4,units=3",
        "linear-gaussian": "gru:hidden=4",
    }
    for task, model in models.items():
        config = RunConfig(task=f"{task}:samples=1", model=model, steps=2, batch_size=4)
        train(config, place / task)
    return place


def sample(capsys, *words: str) -> str:
    assert main(["sample", *words]) == 0
    return capsys.readouterr().out


def test_strokes_music_and_curves(folder, capsys, tmp_path):
    pytest.importorskip("mido")
    for task, files in (("polygons", 0), ("chords", 3), ("linear-gaussian", 0)):
        out = tmp_path / task / "drawn.svg"
        out.parent.mkdir()
        words = [str(folder / task), "--count", "3", "--steps", "5", "--out", str(out)]
        document = json.loads(sample(capsys, *words, "--json"))
        assert out.read_text().startswith("<svg")
        assert [len(each) for each in document["frames"]] == [5, 5, 5]
        assert len(document["midi"]) == files == len(list(out.parent.glob("*.mid")))
        assert json.loads(sample(capsys, *words, "--json")) == document
        other = json.loads(sample(capsys, *words, "--json", "--seed", "1"))
        assert other["frames"] != document["frames"]


def test_the_usual_place(folder, capsys):
    told = sample(capsys, str(folder / "polygons"))
    assert "64 drawings" in told
    assert (folder / "polygons" / "samples.svg").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--out", "x.png"], ".svg"),
        (["--count", "0"], "--count"),
        (["--steps", "0"], "--steps"),
    ],
)
def test_what_is_refused(folder, capsys, words, message):
    assert main(["sample", str(folder / "polygons"), *words]) == 2
    told = capsys.readouterr().err
    assert message in told
    assert "Traceback" not in told
