"""`throughtime sample` of a density: a sheet of draws, or of completed halves."""

import json
from pathlib import Path

import pytest
import torch

from throughtime.cli.main import main
from throughtime.training import RunConfig, load_generator, load_model, train


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("images") / "run"
    train(RunConfig(task="thresholded-digits", model="nade:hidden=8", steps=20), place)
    return place


def told(capsys, *words: str) -> dict:
    assert main(["sample", *words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_sheet_of_draws(run: Path, capsys) -> None:
    found = told(capsys, str(run), "--count", "5", "--seed", "3")
    assert found["sheet"] == str(run / "samples.png")
    assert (run / "samples.png").read_bytes()[:4] == b"\x89PNG"
    model, vocabularies, kind = load_generator(run)
    assert vocabularies == {}
    assert (kind.height, kind.width) == (8, 8)
    random = torch.Generator().manual_seed(3)
    _, log_prob = model.sample_and_log_prob(5, random=random)
    assert found["log_prob"] == log_prob.tolist()
    assert main(["sample", str(run), "--count", "2"]) == 0
    assert f"sheet of 2 images: {run / 'samples.png'}" in capsys.readouterr().out


def test_a_sheet_of_completed_halves(run: Path, tmp_path: Path, capsys) -> None:
    place = tmp_path / "half.png"
    found = told(capsys, str(run), "--complete", "3", "--out", str(place))
    assert place.read_bytes()[:4] == b"\x89PNG"
    assert [len(row) for row in found["log_prob"]] == [8, 8, 8]
    _, task, model = load_model(run)
    known = next(task.batches("test", 3)).x.clone()
    known[:, :, 4:] = -1
    random = torch.Generator().manual_seed(0)
    drawn, log_prob = model.sample_and_log_prob(
        24, known=known.repeat_interleave(8, 0), random=random
    )
    assert found["log_prob"] == log_prob.view(3, 8).tolist()
    assert torch.equal(drawn[:, :, :4], known.repeat_interleave(8, 0)[:, :, :4])


def test_a_random_ordering_reads_no_half(tmp_path: Path, capsys) -> None:
    config = RunConfig(task="thresholded-digits", model="fvsbn:orderings=1", steps=1)
    train(config, tmp_path / "run")
    assert main(["sample", str(tmp_path / "run"), "--complete", "1"]) == 2
    assert "unknown ones before a known one" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--count", "0"], "--count: got 0"),
        (["--complete", "0"], "--complete: got 0"),
        (["--out", "sheet.jpg"], "--out: got sheet.jpg"),
    ],
)
def test_what_is_refused(run: Path, capsys, words: list[str], message: str) -> None:
    assert main(["sample", str(run), *words]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
