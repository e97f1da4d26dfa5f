"""`throughtime compare`: models on one task, several seeds each, and a report."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from throughtime.cli.arguments import (
    flag,
    given,
    option,
    options,
    position,
    whole_number,
)
from throughtime.cli.output import show, show_json, show_place
from throughtime.cli.training import TrainingOptions, training_settings
from throughtime.core.errors import ConfigurationError

if TYPE_CHECKING:
    from throughtime.results import Comparison, ModelRuns, Spread
    from throughtime.results.comparison import TaskFacts
    from throughtime.studies import CompareRequest
    from throughtime.studies.request import Variant


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arguments(TrainingOptions):
    """Train models on a task, several seeds each, measure how far back their gradients reach, and
    write a table and an HTML report. Run it again after Ctrl-C, a crash or a kill: it goes on where
    it was, and trains nothing twice. With more seeds, other models or other settings it adds to the
    same folder and report."""

    task: str = position(
        "TASK", "A task, with options: digits, adding:form=unit. See: throughtime list tasks"
    )
    models: str | None = option(
        "A,B,C",
        "Models: rnn,skip-rnn:lag=21,hidden=64. See: throughtime list models",
        usual="rnn,irnn,lstm,gru,skip-rnn",
    )
    variants: tuple[str, ...] = options(
        "TEXT",
        "Ways of training, each for every model: 'plain clip_norm=null' 'clipped clip_norm=1'",
    )
    length: int | None = option(
        "STEPS", "Sequence length, for tasks that have one.", whole_number, usual="the task's"
    )
    seeds: int = option(
        "N", "Runs of each model; their seeds are 0, 1, ...", whole_number, default=3, usual="3"
    )
    match_parameters: bool = flag(
        "Choose hidden sizes such that all models have as many parameters as the first."
    )
    device: str = option("DEVICE", "cpu, cuda or cuda:N.", default="cpu", usual="cpu")
    jobs: int | None = option(
        "N",
        "Runs at a time, which share the cores evenly.",
        whole_number,
        usual="one a core; one on a GPU",
    )
    data_dir: str | None = option("FOLDER", "Folder of data files, for tasks that read some.")
    allow_mismatch: bool = flag("Go on with runs of other versions or engines: not reproducible.")
    out: str | None = option("FOLDER", "Folder of the results.", usual="runs/compare-TASK")
    quiet: bool = flag("Print the result alone: no progress.")
    json: bool = flag("Print the result as one JSON object on stdout; no progress.")

    usual: ClassVar[dict[str, str]] = dict.fromkeys(
        (
            "steps",
            "batch_size",
            "learning_rate",
            "schedule",
            "warmup_steps",
            "clip_norm",
            "evaluate_every",
            "checkpoint_every",
            "stop_when_solved",
        ),
        "as suits the task",
    )


def understand(words: Sequence[str]) -> "tuple[CompareRequest, Path, Arguments]":
    """The request that the words after the command make, and the folder of its results."""
    values = given(Arguments, "compare", words)
    arguments = Arguments(**values)

    from throughtime.studies import CompareRequest, default_folder, split_models

    settings = training_settings(values)
    settings.pop("learner", None)
    request = CompareRequest(
        task=arguments.task,
        models=() if arguments.models is None else split_models(arguments.models),
        variants=_variants(arguments),
        length=arguments.length,
        seeds=arguments.seeds,
        steps=settings.pop("steps", None),
        batch_size=settings.pop("batch_size", None),
        learning_rate=settings.pop("learning_rate", None),
        settings=settings,
        device=arguments.device,
        jobs=arguments.jobs,
        match_parameters=arguments.match_parameters,
        data_dir=arguments.data_dir,
    )
    out = Path(arguments.out) if arguments.out is not None else default_folder(request)
    return request, out, arguments


def _variants(arguments: Arguments) -> "tuple[Variant, ...]":
    from throughtime.studies import split_models
    from throughtime.studies.request import learner_variants, parse_variant

    if arguments.learner is None:
        return tuple(map(parse_variant, arguments.variants))
    if arguments.variants:
        raise ConfigurationError(
            "--learner", got="--variants beside it", expected="one of them: a variant has a learner"
        )
    return learner_variants(split_models(arguments.learner))


def run(words: Sequence[str]) -> int:
    """Run the command; the exit code."""
    request, out, arguments = understand(words)

    from throughtime.cli.progress import progress
    from throughtime.reports.comparison_text import comparison_table, finding
    from throughtime.studies import compare

    with progress(quiet=arguments.quiet or arguments.json) as observer:
        comparison = compare(request, out, observer, allow_mismatch=arguments.allow_mismatch)
    if arguments.json:
        show_json(_as_json(comparison))
    else:
        show(comparison_table(comparison))
        show("")
        show(finding(comparison))
        show("")
        show_place("report", comparison.report)
    return 0


def _as_json(comparison: "Comparison") -> dict[str, Any]:
    from throughtime.reports.comparison_text import finding

    return {
        "schema_version": 1,
        "folder": str(comparison.folder),
        "report": str(comparison.report),
        "command": comparison.command,
        "commands": comparison.commands,
        "unfinished": comparison.unfinished,
        "task": dataclasses.asdict(comparison.task),
        "finding": finding(comparison),
        "models": [_model_as_json(model, comparison.task) for model in comparison.models],
    }


def _model_as_json(model: "ModelRuns", task: "TaskFacts") -> dict[str, Any]:
    return {
        "label": model.label,
        "spec": model.spec,
        "settings": model.settings,
        "parameters": model.runs[0].parameters,
        **{
            f"test_{name}": _spread_as_json(model.test(name))
            for name in dict.fromkeys((task.headline.name, "loss"))
        },
        "gradient_reach": {
            when: _spread_as_json(model.reach(when)) for when in ("start", "trained")
        },
        "runs": [
            {
                "seed": run.seed,
                "folder": str(run.folder),
                "status": run.status,
                "step": run.step,
                "seconds": run.seconds,
                "test": run.test,
                "diverged": run.diverged,
                "gradient_reach": None
                if run.gradient is None
                else {when: flow.reach for when, flow in run.gradient.items()},
            }
            for run in model.runs
        ],
    }


def _spread_as_json(value: "Spread | None") -> dict[str, Any] | None:
    return None if value is None else dataclasses.asdict(value)
