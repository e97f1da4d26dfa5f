"""What is read from folders, and what is said of folders that are not whole."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from throughtime.core.errors import RunError, RunVersionError
from throughtime.reports import read_comparison, read_run
from throughtime.reports.read import _told_apart
from throughtime.results import Comparison, Spread, spread


def test_comparison_is_read_whole(write_comparison) -> None:
    folder = write_comparison(seeds=2, statuses={("irnn", 1): "diverged"})
    comparison = read_comparison(folder)
    assert comparison.task.spec == "digits"
    assert comparison.report == folder / "report.html"
    assert [m.label for m in comparison.models] == ["rnn", "irnn", "lstm", "gru", "skip-rnn"]
    assert [run.seed for run in comparison.runs] == [0, 1] * 5
    assert comparison.models[4].spec == "skip-rnn:lag=8"
    gru = comparison.models[3].runs[1]
    assert gru.test == {"loss": pytest.approx(2.3 - 2.2 * 0.951), "accuracy": 0.951}
    assert gru.curve.steps == tuple(range(50, 1001, 50))
    assert len(gru.curve.loss) == len(gru.curve.headline) == 20
    assert gru.gradient is not None
    assert len(gru.gradient["start"].norm_by_lag) == 64
    assert gru.gradient["start"].reach < gru.gradient["trained"].reach
    diverged = comparison.models[1].runs[1]
    assert diverged.gradient is None
    assert diverged.diverged == {"step": 333, "quantity": "loss"}


def test_statistics_leave_out_what_diverged(write_comparison) -> None:
    comparison = read_comparison(write_comparison(statuses={("irnn", 1): "diverged"}))
    irnn = comparison.models[1]
    accuracy = irnn.test("accuracy")
    assert accuracy is not None
    assert accuracy.n == 2
    assert (accuracy.low, accuracy.high) == (0.81 - 0.012, 0.81 + 0.012)
    assert accuracy.mean == pytest.approx(0.81)
    assert accuracy.deviation == pytest.approx(0.012 * 2**0.5)
    assert [run.seed for run in irnn.finished] == [0, 2]
    reach = irnn.reach("trained")
    assert reach is not None
    assert reach.n == 2


def test_spread_of_one_and_of_none() -> None:
    assert spread([0.25]) == Spread(0.25, 0.0, 0.25, 0.25, 1)
    assert spread([]) is None


@pytest.mark.parametrize("name", ["config.json", "metrics.jsonl", "result.json"])
def test_missing_file_is_named(write_comparison, name: str) -> None:
    folder = write_comparison(seeds=1) / "lstm" / "seed-0"
    (folder / name).unlink()
    with pytest.raises(RunError, match=f"cannot read .*lstm.*{name}"):
        read_run(folder)


def test_half_a_file_is_refused(write_comparison) -> None:
    folder = write_comparison(seeds=1)
    file = folder / "gru" / "seed-0" / "gradient_flow.json"
    file.write_text(file.read_text()[:100])
    with pytest.raises(RunError, match=r"gradient_flow\.json is not whole"):
        read_comparison(folder)


@pytest.mark.parametrize("name", ["compare.json", "gru/seed-0/gradient_flow.json"])
def test_another_version_is_refused(write_comparison, name: str) -> None:
    folder = write_comparison(seeds=1)
    change(folder / name, schema_version=99)
    with pytest.raises(RunVersionError, match="got schema_version 99, expected 1"):
        read_comparison(folder)


@pytest.mark.parametrize("name", ["compare.json", "gru/seed-0/gradient_flow.json"])
def test_missing_field_is_an_error(write_comparison, name: str) -> None:
    folder = write_comparison(seeds=1)
    document = json.loads((folder / name).read_text())
    del document["task" if name == "compare.json" else "start"]
    (folder / name).write_text(json.dumps(document))
    with pytest.raises(RunError, match=r"is not what throughtime writes: got .*Bring"):
        read_comparison(folder)


def test_folder_that_holds_no_comparison(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"compare\.json"):
        read_comparison(tmp_path)


def change(file: Path, **values: object) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


def configured(found: Comparison, *changes: tuple[str, dict[str, Any]]) -> list[str]:
    """The labels of configurations by name and what is changed in the settings of the first."""
    (model,) = found.models
    usual = {**model.settings, "evaluate_every": 5, "warmup_steps": 1}
    models = []
    for number, (name, change) in enumerate(changes):
        folder = Path("out", f"gru-{number}", "seed-0")
        runs = (dataclasses.replace(model.runs[0], folder=folder),)
        settings = {**usual, **change}
        models.append(
            dataclasses.replace(model, label=name, name=name, settings=settings, runs=runs)
        )
    return [each.label for each in _told_apart(models)]


def test_labels_have_what_differs_from_the_first_of_a_model(write_comparison) -> None:
    found = read_comparison(write_comparison(labels=("gru",), seeds=1))
    longer = {"steps": 3000, "evaluate_every": 100, "warmup_steps": 100}
    small = {"batch_size": 16}
    changes = [("gru", change) for change in ({}, longer, small, {**longer, **small})]
    assert configured(found, *changes) == [
        "gru",
        "gru, steps=3000",
        "gru, batch_size=16",
        "gru, steps=3000, batch_size=16",
    ]
    assert configured(found, ("gru", {}), ("gru", {"warmup_steps": 0}), ("gru", longer)) == [
        "gru",
        "gru, warmup_steps=0",
        "gru, steps=3000, warmup_steps=100, evaluate_every=100",
    ]
    assert configured(found, ("gru, plain", {"clip_norm": None}), ("gru", {}), ("gru", small)) == [
        "gru, plain",
        "gru, clip_norm=1",
        "gru, batch_size=16, clip_norm=1",
    ]
    assert configured(found, ("gru", {}), ("gru", {})) == ["gru, folder=gru-0", "gru, folder=gru-1"]
