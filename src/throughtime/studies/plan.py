"""The runs of a comparison, their usual settings, and their folders.

The settings are our choice; they are no paper's. The learning rates of digits are those of 0.001,
0.002, 0.004, 0.01 and 0.02 with the best validation accuracy over the seeds 100 and 101, which a
comparison of a few seeds does not use; the other tasks are not tuned.
"""

import dataclasses
import functools
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from throughtime.core.errors import ConfigurationError, RunMismatchError, UnknownNameError
from throughtime.core.registry import slug, spec_text
from throughtime.models import MODELS, build_model
from throughtime.reports.read import read_study as read_comparison_file
from throughtime.reports.read import run_folders
from throughtime.results.comparison import SHORTENED, differing
from throughtime.studies.request import CompareRequest
from throughtime.tasks import TASKS
from throughtime.tasks.task import Task
from throughtime.training import RunConfig, RunFolder, read_json
from throughtime.training.config import build_task, read_config, with_checksum
from throughtime.training.optimizers import build_optimizer
from throughtime.training.reproducibility import run_device
from throughtime.training.teaching import build_teacher

DEFAULT_MODELS = ("rnn", "irnn", "lstm", "gru", "skip-rnn")

# Fields of RunConfig, for all tasks; then by task; then by task and model.
COMMON: Mapping[str, Any] = {
    "steps": 3000,
    "batch_size": 64,
    "learning_rate": 2e-3,
    "schedule": "constant",
    "warmup_steps": 0,
    "clip_norm": 1.0,
    "evaluate_every": 100,
    "checkpoint_every": 500,
    "stop_when_solved": True,
}

# A fixed number of steps on images, whose accuracy is what is asked; else as many as it takes.
BY_TASK: Mapping[str, Mapping[str, Any]] = {
    "digits": {
        "steps": 1500,
        "schedule": "cosine",
        "warmup_steps": 100,
        "evaluate_every": 100,
        "checkpoint_every": 250,
        "stop_when_solved": False,
    },
    "mnist": {
        "steps": 10_000,
        "learning_rate": 1e-3,
        "schedule": "cosine",
        "evaluate_every": 500,
        "stop_when_solved": False,
    },
}

BY_TASK_AND_MODEL: Mapping[tuple[str, str], Mapping[str, Any]] = {
    ("digits", "rnn"): {"learning_rate": 4e-3},
    ("digits", "irnn"): {"learning_rate": 4e-3},
    ("digits", "lstm"): {"learning_rate": 1e-2},
    ("digits", "gru"): {"learning_rate": 2e-2},
    ("digits", "skip-rnn"): {"learning_rate": 4e-3},
    ("mnist", "irnn"): {"learning_rate": 1e-4},
}

# Options of models by task, where the user gives none: a skip of one row of the image; and for the
# few steps that digits are given, inputs that an IRNN hears from the start.
MODEL_OPTIONS: Mapping[tuple[str, str], Mapping[str, Any]] = {
    ("digits", "irnn"): {"input_std": 1.0},
    ("digits", "skip-rnn"): {"lag": 8},
    ("mnist", "skip-rnn"): {"lag": 28},
}


def settings(task: str, model: str) -> dict[str, Any]:
    """The fields of RunConfig that this task and model set.

    Example:
        >>> settings("digits", "lstm")["batch_size"]
        64
    """
    return {**COMMON, **BY_TASK.get(task, {}), **BY_TASK_AND_MODEL.get((task, model), {})}


@dataclasses.dataclass(frozen=True)
class PlannedModel:
    """One model of a comparison, in one way of training.

    Attributes:
        label: text of the request, "skip-rnn"; of several variants, "skip-rnn, clipped".
        spec: registry text with the options that the study set, "skip-rnn:lag=8".
        description: one line.
        folder: folder of its runs, below the comparison's.
        settings: fields of its runs that its variant sets.
    """

    label: str
    spec: str
    description: str
    folder: str
    settings: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class PlannedRun:
    """One run of a comparison: a model with a seed, and its folder below the comparison's."""

    label: str
    config: RunConfig
    folder: Path


@dataclasses.dataclass(frozen=True)
class Plan:
    """All of a comparison but its results.

    Attributes:
        task: built, so that its data are there and whole.
        task_spec: registry text with the length of the request, and the checksum of a user's file.
        task_description: one line.
        jobs: runs at a time.
        threads: number of threads of each.
    """

    task: Task
    task_spec: str
    task_description: str
    models: tuple[PlannedModel, ...]
    runs: tuple[PlannedRun, ...]
    jobs: int
    threads: int


def make_plan(request: CompareRequest) -> Plan:
    """Resolve names, lengths, widths and settings. Trains nothing.

    Raises:
        UnknownNameError: no such task, model or option.
        ConfigurationError: options that contradict each other, or a model named twice.
        LearnerRefusalError: the learner cannot teach a model.
        DeviceError: this machine has no such device.
        DataError: the task's data are missing or not whole.
    """
    task_spec = _task_spec(request)
    task_name, _ = TASKS.parse(task_spec)
    labels = request.models or DEFAULT_MODELS
    specs = [_model_spec(label, task_name) for label in labels]
    run_device(request.device)
    config = with_checksum(RunConfig(task_spec, specs[0], data_dir=request.data_dir))
    task_spec, task = config.task, build_task(config)
    if request.match_parameters:
        specs = matched_widths(specs, task)
    for spec in specs:
        parameter_count(spec, task)  # whatever is wrong with a model is found before any is trained
    models = tuple(
        model
        for label, spec in zip(labels, specs, strict=True)
        for model in _variants(request, label, spec)
    )
    folders = [model.folder for model in models]
    twice = sorted({m.label for m in models if folders.count(m.folder) > 1})
    if twice:
        raise ConfigurationError(
            "models of the comparison", got=f"{twice[0]} twice", expected="each model once"
        )
    jobs, threads = _share_cores(request)
    runs = tuple(
        PlannedRun(
            model.label,
            _config(request, task_spec, model, seed, threads),
            Path(model.folder) / f"seed-{seed}",
        )
        for seed in range(request.seeds)
        for model in models
    )
    for run in runs[: len(models)]:
        _check_training(run.config, task)
    return Plan(task, task_spec, TASKS.describe(task_name), models, runs, jobs, threads)


def _check_training(config: RunConfig, task: Task) -> None:
    """Raises what the run would raise before its first step."""
    with torch.random.fork_rng(devices=[]):
        model = build_model(config.model, task.inputs, task.answers)
        parameters = [p for p in model.parameters() if p.requires_grad]
        build_optimizer(
            config.optimizer, parameters, config.learning_rate, config.optimizer_options
        )
        build_teacher(
            config,
            model,
            task,
            lambda scored, batch, state, step: task.score(scored, batch, state=state, step=step),
        )


def default_folder(request: CompareRequest) -> Path:
    """Return the usual folder of a comparison's results: runs/compare-<task>."""
    return Path("runs") / f"compare-{slug(_task_spec(request))}"


def _variants(request: CompareRequest, label: str, spec: str) -> tuple[PlannedModel, ...]:
    description, folder = MODELS.describe(MODELS.parse(spec)[0]), slug(spec)
    if len(request.variants) < 2:
        own = request.variants[0].settings if request.variants else {}
        return (PlannedModel(label, spec, description, folder, own),)
    return tuple(
        PlannedModel(
            f"{label}, {variant.name}",
            spec,
            description,
            f"{folder}-{slug(variant.name)}",
            variant.settings,
        )
        for variant in request.variants
    )


def _config(
    request: CompareRequest, task_spec: str, model: PlannedModel, seed: int, threads: int
) -> RunConfig:
    asked = {
        name: value
        for name in ("steps", "batch_size", "learning_rate")
        if (value := getattr(request, name)) is not None
    }
    usual = settings(TASKS.parse(task_spec)[0], MODELS.cell(model.spec))
    asked |= {**request.settings, **model.settings}
    fields = {**usual, **asked}
    # A short run still has a curve, and ends its warmup. A wrong number is RunConfig's to refuse.
    steps = fields["steps"] if isinstance(fields["steps"], int) else usual["steps"]
    tenth = max(1, steps // 10)
    shorter = {
        "evaluate_every": min(usual["evaluate_every"], tenth),
        "warmup_steps": min(usual["warmup_steps"], tenth if steps > 1 else 0),
    }
    fields = {**fields, **shorter, **asked}
    return RunConfig(
        task=task_spec,
        model=model.spec,
        seed=seed,
        device=request.device,
        threads=threads,
        data_dir=request.data_dir,
        **fields,
    )


def _task_spec(request: CompareRequest) -> str:
    name, options = TASKS.parse(request.task)
    if request.length is not None:
        if "length" not in TASKS.options(name):
            raise UnknownNameError(f"option of task {name!r}", "length", TASKS.options(name))
        if "length" in options:
            raise ConfigurationError(
                f"task {request.task!r}", got="a length beside --length", expected="one of them"
            )
        options["length"] = request.length
    return spec_text(name, options)


def _model_spec(label: str, task_name: str) -> str:
    name, options = MODELS.parse(label)
    return spec_text(name, {**MODEL_OPTIONS.get((task_name, MODELS.cell(label)), {}), **options})


def _share_cores(request: CompareRequest) -> tuple[int, int]:
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    jobs = request.jobs or (cores if request.device == "cpu" else 1)
    return jobs, max(1, cores // jobs)


_LARGEST = 2**14


def matched_widths(specs: list[str], task: Task) -> list[str]:
    """The same models, with hidden=N such that each has as many parameters as the first, or nearly.

    Parameters grow with N, so N is found by bisection over the widths that the model accepts: of
    the last below and the first above, the nearer one. Nothing is trained.

    Arguments:
        specs: registry texts; the first is the reference and keeps its size; the others give none.
        task: task that gives the sizes of input and output.

    Raises:
        ConfigurationError: a model other than the first has a hidden size of its own, or has no
            such option, or cannot be built, or has too few parameters with 16,384 units.
    """
    reference, *others = specs
    wanted = parameter_count(reference, task)
    return [reference, *(_matched(spec, wanted, task) for spec in others)]


def parameter_count(spec: str, task: Task) -> int:
    """The number of trainable parameters of a model for this task."""
    with torch.random.fork_rng(devices=[]):
        model = build_model(spec, task.inputs, task.answers)
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def _matched(spec: str, wanted: int, task: Task) -> str:
    name, options = MODELS.parse(spec)
    if "hidden" not in MODELS.options(name):
        raise ConfigurationError(f"model {name!r} has no option 'hidden' to match parameters with")
    if "hidden" in options:
        raise ConfigurationError(
            f"model {spec!r} cannot be matched to the first model's parameters",
            got="a hidden size of its own",
            expected="none",
            fix="Leave its hidden size out, or do not match parameters.",
        )

    def sized(hidden: int) -> str:
        return spec_text(name, {**options, "hidden": hidden})

    refusals: list[str] = []

    @functools.cache
    def count(hidden: int) -> int | None:
        """Return the number of parameters; None if the model refuses the width."""
        try:
            return parameter_count(sized(hidden), task)
        except ConfigurationError as refusal:
            if str(refusal) in refusals:  # the same at another width: the width is not at fault
                raise
            refusals.append(str(refusal))
            return None

    def first(start: int, end: int) -> tuple[int, int] | None:
        """Return the first width from `start` to `end` - 1 that the model accepts, and its size."""
        for hidden in range(start, min(end, _LARGEST + 1)):
            if (parameters := count(hidden)) is not None:
                return hidden, parameters
        return None

    below, above, start = (0, 0), None, 1
    while above is None and start <= _LARGEST:
        if found := first(start, 2 * start):
            below, above = (found, None) if found[1] < wanted else (below, found)
        start *= 2
    if above is None:
        widest, parameters = below
        raise ConfigurationError(
            f"model {spec!r} cannot be matched to the first model's {wanted:,} parameters",
            got=f"{parameters:,} with {widest:,} units" if widest else refusals[-1].rstrip("."),
            expected=f"as many with a hidden size of at most {_LARGEST:,}",
            fix="Make the first model smaller." if widest else "Leave the model out.",
        )
    end = above[0]  # the model refuses the widths from here to `above`
    while end - below[0] > 1:
        middle = (below[0] + end) // 2
        found = first(middle, end)
        if found and found[1] < wanted:
            below = found
        else:
            above, end = found or above, middle
    nearest = min(
        (below, above) if below[0] else (above,), key=lambda found: abs(found[1] - wanted)
    )
    return sized(nearest[0])


Configuration = Mapping[str, Any]
"""The model's registry text, and the settings of its training."""

_LONGEST_NAME = 150


def read_study(out: Path) -> dict[str, Any]:
    """The content of compare.json; empty where there is none."""
    file = out / "compare.json"
    if not file.exists():
        return {}
    read_comparison_file(file)  # or it is refused
    return read_json(file)


def placed(plan: Plan, out: Path) -> Plan:
    """The plan with the folders that its configurations have, or get, in a comparison's folder.

    Arguments:
        plan: plan with the folders that its configurations have where nothing else is there.
        out: the folder of the comparison. Nobody else may choose folders in it at the same time.

    Raises:
        RunMismatchError: the folder holds a single run, or a comparison on another task.
        RunError: a file of the folder is damaged.
    """
    study = read_study(out)
    _check_folder(plan, study, out)
    taken: dict[str, Configuration] = {
        entry["folder"]: entry["configuration"]
        for entry in study.get("models", ())
        if "configuration" in entry
    }
    taken |= {run.parent.name: configuration(read_config(run)) for run in run_folders(out)}
    models: list[PlannedModel] = []
    runs: dict[PlannedRun, PlannedRun] = {}
    for model in plan.models:
        mine = [run for run in plan.runs if run.folder.parent.name == model.folder]
        wanted = configuration(mine[0].config)
        there = [name for name, other in taken.items() if other == wanted]
        folder = there[0] if there else _free_name(model.folder, wanted, taken)
        taken[folder] = wanted
        models.append(dataclasses.replace(model, folder=folder))
        for run in mine:
            runs[run] = dataclasses.replace(run, folder=Path(folder) / run.folder.name)
    return dataclasses.replace(
        plan, models=tuple(models), runs=tuple(runs[run] for run in plan.runs)
    )


def configuration(config: RunConfig) -> Configuration:
    """The configuration that a run belongs to."""
    return {"model": config.model, **config.settings()}


def _check_folder(plan: Plan, study: Mapping[str, Any], out: Path) -> None:
    if RunFolder(out).config.exists():
        raise RunMismatchError(
            f"{out} holds a single run",
            expected="the folder of a comparison",
            fix="Choose another folder for the results.",
        )
    there = study.get("task", {}).get("spec", plan.task_spec)
    if there != plan.task_spec:
        raise RunMismatchError(
            f"{out} holds a comparison on another task",
            got=plan.task_spec,
            expected=there,
            fix="Choose another folder for the results.",
        )


def _free_name(name: str, wanted: Configuration, taken: Mapping[str, Configuration]) -> str:
    """Return a name that no other configuration has, with the settings that differ."""
    if name in taken:
        told = [n for n in differing([wanted, taken[name]]) if n not in SHORTENED]
        settings = slug("-".join(f"{setting}-{wanted.get(setting)}" for setting in told))
        name = f"{name}-{settings}"[:_LONGEST_NAME]
    numbered = (f"{name}-{number}" for number in range(2, len(taken) + 3))
    return next(free for free in (name, *numbered) if free not in taken)
