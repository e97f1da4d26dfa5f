"""What a request comes to: specs, folders, settings, cores."""

import dataclasses
import shlex
from pathlib import Path

import pytest

from throughtime.core.errors import ConfigurationError, DeviceError, UnknownNameError
from throughtime.models import MODELS
from throughtime.studies import CompareRequest, default_folder, plan
from throughtime.studies.plan import make_plan
from throughtime.studies.request import Variant, learner_variants, parse_variant
from throughtime.tasks import TASKS
from throughtime.training import RunConfig


@pytest.fixture
def four_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan.os, "sched_getaffinity", lambda pid: {0, 1, 2, 3}, raising=False)


def test_usual_models_and_settings(four_cores) -> None:
    made = make_plan(CompareRequest("digits"))
    assert [m.label for m in made.models] == list(plan.DEFAULT_MODELS)
    assert made.models[4].spec == "skip-rnn:lag=8"
    assert made.models[4].folder == "skip-rnn-lag-8"
    assert len(made.runs) == 15
    # All models with a seed before the next seed, so that a first look needs no patience.
    assert [(r.label, r.config.seed) for r in made.runs[:6]] == [
        *((label, 0) for label in plan.DEFAULT_MODELS),
        ("rnn", 1),
    ]
    assert made.runs[4].folder == Path("skip-rnn-lag-8/seed-0")
    for run in made.runs:
        usual = plan.settings("digits", run.label)
        assert {name: getattr(run.config, name) for name in usual} == usual
    assert (made.jobs, made.threads) == (4, 1)


def test_a_family_has_the_settings_of_its_cell() -> None:
    cells = {
        "readout:cell=gru": ("gru", "readout:cell=gru"),
        "readout": ("lstm", "readout"),
        "readout:cell=irnn": ("irnn", "readout:cell=irnn,input_std=1.0"),
        "readout:cell=skip-rnn": ("skip-rnn", "readout:cell=skip-rnn,lag=8"),
        "readout:cell=skip-rnn,lag=3": ("skip-rnn", "readout:cell=skip-rnn,lag=3"),
    }
    made = make_plan(CompareRequest("digits", tuple(cells), seeds=1))
    assert [model.spec for model in made.models] == [spec for _, spec in cells.values()]
    for run, (cell, _) in zip(made.runs, cells.values(), strict=True):
        usual = plan.settings("digits", cell)
        assert {name: getattr(run.config, name) for name in usual} == usual
    assert made.runs[0].config.learning_rate == 2e-2
    assert MODELS.cell("latch-unit:weight=2") == "latch-unit"
    assert MODELS.cell("language-model:cell=mgu,hidden=3") == "mgu"


def test_what_is_asked_wins_over_the_usual(four_cores) -> None:
    request = CompareRequest(
        "adding",
        ("lstm:hidden=8", "skip-rnn:lag=3,hidden=5"),
        length=40,
        seeds=2,
        steps=700,
        batch_size=5,
        learning_rate=0.25,
        jobs=2,
    )
    made = make_plan(request)
    assert made.task_spec == "adding:length=40"
    assert made.task.dependency_length == 43
    assert [m.spec for m in made.models] == ["lstm:hidden=8", "skip-rnn:hidden=5,lag=3"]
    assert (made.jobs, made.threads) == (2, 2)
    for run in made.runs:
        config = run.config
        assert (config.steps, config.batch_size, config.learning_rate) == (700, 5, 0.25)
        assert (config.task, config.threads) == ("adding:length=40", 2)


@pytest.mark.parametrize("steps", [1, 2, 9, 10, 25, 1499])
def test_short_runs_keep_a_curve_and_end_their_warmup(steps: int) -> None:
    (run,) = make_plan(CompareRequest("digits", ("rnn",), seeds=1, steps=steps)).runs
    assert run.config.evaluate_every == min(100, max(1, steps // 10))
    assert run.config.warmup_steps <= max(1, steps // 10)
    assert run.config.warmup_steps < steps


@pytest.mark.parametrize(("jobs", "threads"), [(1, 4), (2, 2), (3, 1), (9, 1)])
def test_cores_are_shared(four_cores, jobs: int, threads: int) -> None:
    made = make_plan(CompareRequest("digits", ("rnn",), jobs=jobs))
    assert (made.jobs, made.threads) == (jobs, threads)
    assert {run.config.threads for run in made.runs} == {threads}


def test_same_options_in_another_order_are_the_same_run() -> None:
    with pytest.raises(ConfigurationError, match="twice, expected each model once"):
        make_plan(CompareRequest("digits", ("rnn:hidden=4,layers=2", "rnn:layers=2,hidden=4")))


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"task": "digts"}, UnknownNameError, "unknown task: got 'digts'.*Did you mean 'digits'"),
        ({"models": ("lsmt",)}, UnknownNameError, "unknown model.*Did you mean 'lstm'"),
        ({"models": ("rnn:hiden=4",)}, UnknownNameError, "option of model 'rnn'.*'hidden'"),
        ({"models": ("rnn:engine=fast",)}, UnknownNameError, "unknown engine: got 'fast'"),
        ({"length": 9}, UnknownNameError, "unknown option of task 'digits': got 'length'"),
        ({"device": "abacus"}, ConfigurationError, "expected cpu, cuda or cuda:N"),
        ({"device": "cuda:97"}, DeviceError, "device of the run: got 'cuda:97'"),
        ({"data_dir": "x"}, ConfigurationError, "reads no files"),
        ({"learning_rate": -1.0}, ConfigurationError, "learning_rate of the run: got -1.0"),
        (
            {"variants": (Variant("a", {"steps": "abc"}),)},
            ConfigurationError,
            "steps of the run: got 'abc', expected a whole number",
        ),
        (
            {"variants": (Variant("a", {"evaluate_every": None}),)},
            ConfigurationError,
            "evaluate_every of the run: got None, expected a whole number",
        ),
        (
            {"task": "adding:length=30", "length": 40},
            ConfigurationError,
            "got a length beside --length",
        ),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_what_cannot_be_met(changes: dict, error: type[Exception], message: str) -> None:
    request = CompareRequest(**{"task": "digits", **changes})
    with pytest.raises(error, match=message):
        make_plan(request)


@pytest.mark.parametrize("name", ["length", "seeds", "steps", "batch_size", "jobs"])
def test_counts_are_at_least_one(name: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{name} of the comparison: got 0, expected at l"):
        CompareRequest(**{"task": "adding", name: 0})


def test_default_folder() -> None:
    assert default_folder(CompareRequest("digits")) == Path("runs/compare-digits")
    request = CompareRequest("adding:form=unit", length=50)
    assert default_folder(request) == Path("runs/compare-adding-form-unit-length-50")


@pytest.mark.parametrize(
    "variants",
    [
        learner_variants(["rtrl", "truncated-bptt:every=3,window=9"]),
        (Variant("it's clipped", {"clip_norm": 0.5, "optimizer": "SGD"}), Variant("plain", {})),
    ],
)
def test_command_asks_for_the_same(variants: tuple[Variant, ...]) -> None:
    """Read back by the command line's own parser."""
    from throughtime.cli import compare

    request = CompareRequest(
        "adding:form=unit",
        ("rnn", "skip-rnn:lag=21,hidden=64"),
        variants,
        length=50,
        seeds=2,
        steps=10,
        batch_size=3,
        learning_rate=1e-4,
        device="cuda:1",
        jobs=7,
        match_parameters=True,
        data_dir="a folder; rm x",
        settings={
            "clip_norm": None,
            "stop_when_solved": False,
            "optimizer": "SGD",
            "optimizer_options": {"momentum": 0.5, "nesterov": True},
            "schedule": "cosine",
            "warmup_steps": 2,
        },
    )
    assert all(
        getattr(request, field.name) != field.default for field in dataclasses.fields(request)
    )
    words = shlex.split(request.command(Path("runs/it's")))
    assert words[:2] == ["throughtime", "compare"]
    assert compare.understand(words[2:])[:2] == (request, Path("runs/it's"))


def test_settings_name_what_exists() -> None:
    fields = {field.name for field in dataclasses.fields(RunConfig)}
    assert set(plan.COMMON) <= fields
    for task, values in plan.BY_TASK.items():
        assert task in TASKS
        assert set(values) <= fields
    for (task, model), values in plan.BY_TASK_AND_MODEL.items():
        assert task in TASKS
        assert model in MODELS
        assert set(values) <= fields
    for (task, model), options in plan.MODEL_OPTIONS.items():
        assert task in TASKS
        assert set(options) <= set(MODELS.options(model))


def test_variants_are_runs_of_their_own() -> None:
    variants = (Variant("plain", {"clip_norm": None}), Variant("rtrl", {"learner": "rtrl"}))
    plan = make_plan(CompareRequest("latch", ("rnn", "gru"), variants, seeds=1))
    assert [model.label for model in plan.models] == [
        "rnn, plain",
        "rnn, rtrl",
        "gru, plain",
        "gru, rtrl",
    ]
    assert [(run.config.clip_norm, run.config.learner) for run in plan.runs[:2]] == [
        (None, "bptt"),
        (1.0, "rtrl"),
    ]
    assert len({run.folder for run in plan.runs}) == 4
    (only,) = make_plan(CompareRequest("latch", ("rnn",), variants[1:], seeds=1)).runs
    assert (only.label, only.config.learner) == ("rnn", "rtrl")
    with pytest.raises(ConfigurationError, match="twice"):
        make_plan(CompareRequest("latch", ("rnn",), (variants[0], variants[0])))


def test_an_unknown_learner_is_told_before_anything_is_trained() -> None:
    wrong = learner_variants(["bptt", "rttl"])
    with pytest.raises(UnknownNameError, match="rtrl"):
        make_plan(CompareRequest("latch", ("rnn",), wrong))


@pytest.mark.parametrize(
    "text", ["", "named clip_norm", "named clip_norm=1 clip_norm=2", "'unclosed", "named seed=3"]
)
def test_wrong_variants_are_told(text: str) -> None:
    with pytest.raises((ConfigurationError, UnknownNameError)):
        parse_variant(text)
