"""`throughtime compare`: models on one task, several seeds each, and a report."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro

from throughtime.cli.arguments import option, parse
from throughtime.cli.output import show, show_json
from throughtime.cli.progress import progress
from throughtime.core.errors import ConfigurationError
from throughtime.reports import Comparison, ModelRuns, Spread
from throughtime.reports.finding import finding
from throughtime.reports.table import comparison_table
from throughtime.studies import CompareRequest, compare, default_folder, split_models
from throughtime.studies.variant import Variant, learner_variants, parse_variant


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Train models on a task, several seeds each, measure how far back their gradients reach, and
    write a table and an HTML report. Run it again after Ctrl-C, a crash or a kill: it goes on where
    it was, and trains nothing twice."""

    task: Annotated[tyro.conf.Positional[str], option("TASK", "")]
    """A task, with options: digits, adding:form=unit. See: throughtime list tasks"""
    models: Annotated[str | None, option("A,B,C", "rnn,irnn,lstm,gru,skip-rnn")] = None
    """Models: rnn,skip-rnn:lag=21,hidden=64. See: throughtime list models"""
    learner: Annotated[str | None, option("A,B", "bptt")] = None
    """Ways of learning, each for every model: bptt,rtrl,uoro. See: throughtime list learners"""
    variants: Annotated[tuple[str, ...], option("TEXT", "")] = ()
    """Ways of training, each for every model: 'plain clip_norm=null' 'clipped clip_norm=1'"""
    length: Annotated[int | None, option("STEPS", "the task's")] = None
    """Sequence length, for tasks that have one."""
    seeds: Annotated[int, option("N", "3")] = 3
    """Runs of each model; their seeds are 0, 1, ..."""
    steps: Annotated[int | None, option("N", "as suits the task")] = None
    """Training steps of a run, at most."""
    batch_size: Annotated[int | None, option("N", "as suits the task")] = None
    """Sequences a step."""
    learning_rate: Annotated[float | None, option("RATE", "as suits task and model")] = None
    """Learning rate of every model."""
    match_parameters: Annotated[bool, option(None, "")] = False
    """Choose hidden sizes such that all models have as many parameters as the first."""
    device: Annotated[str, option("DEVICE", "cpu")] = "cpu"
    """cpu, cuda or cuda:N."""
    jobs: Annotated[int | None, option("N", "one a core; one on a GPU")] = None
    """Runs at a time, which share the cores evenly."""
    data_dir: Annotated[str | None, option("FOLDER", "")] = None
    """Folder of data files, for tasks that read some."""
    out: Annotated[Path | None, option("FOLDER", "runs/compare-TASK")] = None
    """Folder of the results."""
    quiet: Annotated[bool, option(None, "")] = False
    """Print the result alone: no progress."""
    json: Annotated[bool, option(None, "")] = False
    """Print the result as one JSON object on stdout; no progress."""


def understand(words: Sequence[str]) -> tuple[CompareRequest, Path, Arguments]:
    """What the words after the command ask for, and where its results go."""
    arguments = parse(Arguments, "compare", words)
    request = CompareRequest(
        task=arguments.task,
        models=() if arguments.models is None else split_models(arguments.models),
        variants=_variants(arguments),
        length=arguments.length,
        seeds=arguments.seeds,
        steps=arguments.steps,
        batch_size=arguments.batch_size,
        learning_rate=arguments.learning_rate,
        device=arguments.device,
        jobs=arguments.jobs,
        match_parameters=arguments.match_parameters,
        data_dir=arguments.data_dir,
    )
    out = arguments.out if arguments.out is not None else default_folder(request)
    return request, out, arguments


def _variants(arguments: Arguments) -> tuple[Variant, ...]:
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
    with progress(quiet=arguments.quiet or arguments.json) as observer:
        comparison = compare(request, out, observer)
    if arguments.json:
        show_json(_as_json(comparison))
    else:
        show(comparison_table(comparison))
        show("")
        show(finding(comparison))
        show(f"\nreport: {comparison.report}")
    return 0


def _as_json(comparison: Comparison) -> dict[str, Any]:
    return {
        "schema_version": 1,
        "folder": str(comparison.folder),
        "report": str(comparison.report),
        "command": comparison.command,
        "task": dataclasses.asdict(comparison.task),
        "finding": finding(comparison),
        "models": [_model_as_json(model) for model in comparison.models],
    }


def _model_as_json(model: ModelRuns) -> dict[str, Any]:
    return {
        "label": model.label,
        "spec": model.spec,
        "parameters": model.runs[0].parameters,
        "test_accuracy": _spread_as_json(model.test("accuracy")),
        "test_loss": _spread_as_json(model.test("loss")),
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


def _spread_as_json(value: Spread | None) -> dict[str, Any] | None:
    return None if value is None else dataclasses.asdict(value)
