"""Published studies are read, run, resumed and told as they came out."""

import dataclasses
import json

import pytest

from throughtime.cli.main import main
from throughtime.core.errors import ConfigurationError, UnknownNameError
from throughtime.learning import LEARNERS
from throughtime.models import MODELS, build_model
from throughtime.reports.reproduction import reproduction_markdown
from throughtime.results.comparison import Spread
from throughtime.studies import literature, publications, reproduce
from throughtime.studies.literature import Check, publication
from throughtime.tasks import TASKS, CountingDialogue
from throughtime.tasks.kinds import Dialogues, Frames, Likelihood

TINY = {
    "schema_version": 1,
    "title": "A tiny study",
    "source": "Nobody, nowhere",
    "effect": "None.",
    "differs": "In everything.",
    "quantity": "loss over chance",
    "scales": {
        "small": {
            "about": "seconds",
            "comparison": {
                "task": "copying:items=1,symbols=2",
                "length": 2,
                "models": ["rnn:hidden=2", "gru:hidden=2"],
                "seeds": 2,
                "steps": 3,
            },
            "rows": [
                {"label": "one", "model": "rnn:hidden=2", "paper": 0.5, "expected": [0.1, 9.0]},
                {"label": "two", "model": "gru:hidden=2", "paper": None, "expected": None},
            ],
            "checks": [
                {"statement": "both are bad", "kind": "above", "of": ["one"], "bound": 0.5},
                {"statement": "magic", "kind": "ratio", "of": ["one", "two"], "bound": 1e9},
            ],
        }
    },
}


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    (tmp_path / "studies" / "tiny").mkdir(parents=True)
    (tmp_path / "studies" / "tiny" / "study.json").write_text(json.dumps(TINY))
    monkeypatch.setattr(literature, "FOLDER", tmp_path / "studies")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_study_is_whole() -> None:
    """Its rows are of models that are compared, its checks of rows, its specs of what there is."""
    assert publications()
    for name in publications():
        study = publication(name)
        assert set(study.scales) == {"small", "full"}
        for scale in study.scales.values():
            known = set()
            for part, request in scale.parts.items():
                TASKS.parse(request.task)
                for variant in request.variants:
                    LEARNERS.parse(variant.settings.get("learner", "bptt"))
                for model in request.models:
                    MODELS.parse(model)
                    many = len(request.variants) > 1
                    known |= {(part, f"{model}, {v.name}") for v in request.variants if many}
                    known |= set() if many else {(part, model)}
            labels = {row.label for row in scale.rows}
            assert len(labels) == len(scale.rows)
            assert {(row.part, row.model) for row in scale.rows} == known
            assert scale.checks
            assert all(set(check.of) <= labels for check in scale.checks)


def test_models_of_the_study_of_dialogues_have_as_many_parameters() -> None:
    """Within 5 %: a larger model is no proof for a hierarchy."""
    study = publication("dialogue")
    kinds = {"small": CountingDialogue().inputs, "full": Dialogues(9726, begin=1)}
    for name, scale in study.scales.items():
        sizes = {}
        for row in scale.rows:
            model = build_model(row.model, kinds[name], Likelihood())
            sizes[row.label] = sum(p.numel() for p in model.parameters())
        for flat in ("flat, last utterance", "flat, whole dialogue"):
            assert abs(sizes[flat] / sizes["HRED"] - 1) < 0.05, sizes


def test_models_of_the_study_of_pen_strokes_have_as_many_parameters() -> None:
    """Within 5 %: a larger model is no proof for latent variables."""
    kind = Frames(3, binary=False, pen=True)
    for scale in publication("pen-strokes").scales.values():
        plain, latent = (
            sum(p.numel() for p in build_model(row.model, kind, Likelihood()).parameters())
            for row in scale.rows
        )
        assert abs(plain / latent - 1) < 0.05


def test_conditions() -> None:
    means = {"a": 0.2, "b": 0.5, "c": 0.6, "none": 0.0}
    wrong = [
        Check("", "difference", ("b", "a"), 0.31),
        Check("", "ratio", ("b", "a"), 2.6),
        Check("", "order", ("a", "b", "c"), 0.11),
        Check("", "below", ("a",), 0.1),
        Check("", "above", ("a",), 0.3),
        Check("", "above", ("missing",), 0.0),
        Check("", "order", ("b", "a"), 0.0),
        Check("", "ratio", ("none", "none"), 0.0),
    ]
    right = [
        Check("", "difference", ("b", "a"), 0.29),
        Check("", "ratio", ("b", "a"), 2.4),
        Check("", "order", ("a", "b", "c"), 0.09),
        Check("", "below", ("a",), 0.2),
        Check("", "above", ("a",), 0.2),
    ]
    assert not any(check.holds(means) for check in wrong)
    assert all(check.holds(means) for check in right)


def test_a_condition_on_the_median(tiny) -> None:
    study = json.loads(json.dumps(TINY))
    scale = study["scales"]["small"]
    scale["comparison"] |= {"seeds": 3, "models": ["rnn:hidden=2"]}
    scale["rows"] = scale["rows"][:1]
    check = {"statement": "", "kind": "below", "of": ["one"], "bound": 0.5}
    scale["checks"] = [check, {**check, "statistic": "median"}]
    (tiny / "studies" / "tiny" / "study.json").write_text(json.dumps(study))
    found = reproduce("tiny", tiny / "out", jobs=1)
    (row,) = found.rows
    mean, median = (check.value for check in found.checks)
    assert mean == row.ours.mean
    assert median == pytest.approx(3 * row.ours.mean - row.ours.low - row.ours.high)


def test_a_study_is_run_and_resumed(tiny) -> None:
    found = reproduce("tiny", tiny / "out", jobs=1)
    assert [row.label for row in found.rows] == ["one", "two"]
    assert found.rows[0].ours is not None
    assert found.rows[0].ours.n == found.seeds == 2
    assert [check.holds for check in found.checks] == [True, False]
    assert not found.reproduced
    text = (tiny / "out" / "reproduction.md").read_text()
    assert text == reproduction_markdown(found)
    assert "| one | 0.5 |" in text
    assert "NO: magic" in text
    again = reproduce("tiny", tiny / "out", jobs=1)
    assert again == found
    assert json.loads((tiny / "out" / "reproduction.json").read_text())["reproduced"] is False


def test_solved_runs_are_counted(tiny) -> None:
    found = reproduce("tiny", tiny / "out", jobs=1)
    row = found.rows[0]
    assert row.ours is not None
    solved = dataclasses.replace(row, ours=Spread(0.5, 0.71, 0.0, 1.0, 2), paper=1.0)
    text = reproduction_markdown(dataclasses.replace(found, quantity="solved", rows=(solved,)))
    assert "| one | 100.0 % | 1 of 2 |" in text


def test_the_command(tiny, capsys) -> None:
    assert main(["reproduce"]) == 0
    assert "tiny" in capsys.readouterr().out
    assert main(["reproduce", "tiny", "--seeds", "1", "--jobs", "1", "--quiet"]) == 0
    out = capsys.readouterr().out
    assert "A tiny study" in out
    assert "NO: magic" in out
    assert (tiny / "runs" / "reproduce-tiny-small" / "report.html").exists()
    assert main(["reproduce", "tiny", "--seeds", "1", "--jobs", "1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["seeds"] == 1
    assert main(["reproduce", "tinny"]) == 2
    assert main(["reproduce", "tiny", "--scale", "full"]) == 2


def test_unknown_names_are_refused(tiny) -> None:
    with pytest.raises(UnknownNameError, match="unknown study"):
        reproduce("none", tiny / "out")
    with pytest.raises(UnknownNameError, match="unknown scale of tiny"):
        reproduce("tiny", tiny / "out", scale="huge")


def test_quantities_of_a_scale_a_row_and_a_claim(tiny) -> None:
    """A metric of the test set by name; one that the task has not is refused."""
    file = next(tiny.glob("studies/tiny/study.json"))
    document = json.loads(file.read_text())
    small = document["scales"]["small"]
    small["quantity"] = "loss"
    small["rows"][1]["quantity"] = "accuracy"
    small["checks"][0]["quantity"] = "accuracy"  # of which a ratio may have no denominator
    file.write_text(json.dumps(document))
    found = reproduce("tiny", tiny / "out", jobs=1)
    assert found.quantity == "loss"
    folders = sorted((tiny / "out").glob("*/seed-*/result.json"))
    assert folders
    losses = [json.loads(f.read_text())["test"] for f in folders]
    first, second = found.rows[0].ours, found.rows[1].ours
    assert first is not None
    assert second is not None
    assert first.low in [test["loss"] for test in losses]
    assert second.low in [test["accuracy"] for test in losses]
    assert found.checks[0].quantity == "accuracy"
    assert "accuracy of one" in reproduction_markdown(found)
    document["quantity"], small["quantity"] = "bleu", ""
    file.write_text(json.dumps(document))
    with pytest.raises(ConfigurationError, match="bleu"):
        reproduce("tiny", tiny / "out", jobs=1)


def test_a_row_may_keep_the_seed_with_the_lowest_value(tiny) -> None:
    """The test metric is that of the seed which another metric chooses."""
    file = next(tiny.glob("studies/tiny/study.json"))
    document = json.loads(file.read_text())
    small = document["scales"]["small"]
    small["comparison"] |= {"seeds": 3, "task": "questions:questions=20", "batch_size": 8}
    small["comparison"] |= {"models": ["memn2n:hidden=2"]}
    del small["comparison"]["length"]
    model = {"model": "memn2n:hidden=2", "paper": None, "expected": None}
    small["rows"] = [
        {"label": "one", **model},
        {"label": "two", **model, "kept": "training_error", "quantity": "accuracy"},
    ]
    file.write_text(json.dumps(document))
    every, kept = reproduce("tiny", tiny / "out", jobs=1).rows
    results = [json.loads(f.read_text()) for f in sorted((tiny / "out").glob("*/*/result.json"))]
    tests = [result["test"] for result in results]
    assert len(tests) == 3
    best = min(tests, key=lambda test: test["training_error"])
    assert kept.ours is not None
    assert every.ours is not None
    assert (kept.ours.low, kept.ours.high) == (best["accuracy"], best["accuracy"])
    assert every.ours.low < every.ours.high
    small["rows"][1]["kept"] = "training_eror"
    file.write_text(json.dumps(document))
    with pytest.raises(ConfigurationError, match="got training_eror, expected loss, "):
        reproduce("tiny", tiny / "out", jobs=1)
