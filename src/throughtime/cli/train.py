"""`throughtime train`: one model on one task."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from throughtime.cli.arguments import flag, given, option, position, whole_number
from throughtime.cli.output import show, show_json, show_place
from throughtime.cli.training import TrainingOptions, training_settings

if TYPE_CHECKING:
    from rich.text import Text

    from throughtime.training import Event, Result, RunConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arguments(TrainingOptions):
    """Train one model on a task. Run it again after Ctrl-C, a crash or a kill: it goes on from the
    last checkpoint, to the same bits; a finished run is not trained again, but goes on if it is
    given more steps."""

    task: str = position(
        "TASK", "A task, with options: digits, adding:length=200. See: throughtime list tasks"
    )
    model: str = position(
        "MODEL",
        "A model, with options: skip-rnn:lag=21,hidden=64. See: throughtime list models",
    )
    seed: int = option(
        "N",
        "Seed of the weights, the batches and the dropout.",
        whole_number,
        default=0,
        usual="0",
    )
    device: str = option("DEVICE", "cpu, cuda or cuda:N.", default="cpu", usual="cpu")
    threads: int = option(
        "N", "Threads of the CPU that torch uses.", whole_number, default=1, usual="1"
    )
    data_dir: str | None = option("FOLDER", "Folder of data files, for tasks that read some.")
    allow_mismatch: bool = flag(
        "Go on with a run of other versions, engines or threads: not reproducible."
    )
    out: str | None = option("FOLDER", "Folder of the run.", usual="runs/train-TASK-MODEL-seed-N")
    quiet: bool = flag("Print the result alone: no progress.")
    json: bool = flag("Print the result as one JSON object on stdout; no progress.")


def run(words: Sequence[str]) -> int:
    """Run the command; the exit code."""
    values = given(Arguments, "train", words)
    arguments = Arguments(**values)

    from throughtime.cli.progress import progress
    from throughtime.core.errors import RunMismatchError
    from throughtime.models import MODELS
    from throughtime.results.atomic import writing
    from throughtime.studies import Done, Planned, StudyEvent
    from throughtime.tasks import TASKS
    from throughtime.training import RunConfig, train

    settings = training_settings(values)
    of_the_run = ("task", "model", "seed", "device", "threads", "data_dir")
    config = RunConfig(**{name: getattr(arguments, name) for name in of_the_run}, **settings)
    TASKS.parse(config.task)  # before there is a folder
    MODELS.parse(config.model)
    out = Path(arguments.out) if arguments.out is not None else _usual_folder(config, settings)
    with writing(out):
        of_a_comparison = (out / "compare.json").exists()
    if of_a_comparison:
        raise RunMismatchError(
            f"{out} holds a comparison",
            expected="the folder of a run",
            fix="Choose another folder with --out.",
        )
    with progress(quiet=arguments.quiet or arguments.json) as observer:

        def observe(event: "Event") -> None:
            observer(StudyEvent(config.model, config.seed, event))

        observer(StudyEvent(config.model, config.seed, Planned(config.steps)))
        result = train(config, out, observer=observe, allow_mismatch=arguments.allow_mismatch)
        observer(StudyEvent(config.model, config.seed, Done(result)))
    if arguments.json:
        show_json({"schema_version": 1, "folder": str(out), **result.to_json()})
    else:
        show(_summary(config, result))
        if result.rescheduled:
            show(_rescheduling(config, result.rescheduled))
        show_place("run", out)
    return 0


def _usual_folder(config: "RunConfig", settings: Mapping[str, Any]) -> Path:
    """A folder of its own for each configuration: settings but the number of steps are in its
    name where they are not the usual ones."""
    from throughtime.core.registry import slug

    usual = {field.name: field.default for field in dataclasses.fields(config)}
    usual["optimizer_options"] = {}
    told = [
        slug(f"{name}-{value}")
        for name, value in sorted(settings.items())
        if name not in ("steps", "tensorboard") and value != usual[name]
    ]
    parts = ["train", slug(config.task), slug(config.model), f"seed-{config.seed}", *told]
    return Path("runs") / "-".join(parts)


def _summary(config: "RunConfig", result: "Result") -> "Text":
    """One or two lines on how the run ended."""
    from rich.text import Text

    from throughtime.reports.numbers import count, duration, ending, metric

    text = Text(f"{config.model} on {config.task}, seed {config.seed}: ", style="bold")
    size = f"{count(result.parameters)} parameters"
    took = f"{count(result.step)} steps, {duration(result.seconds)}, {size}"
    if result.diverged is not None:
        where = f"{result.diverged.quantity} not finite at step {count(result.diverged.step)}"
        return text.append(f"diverged ({where}); {took}", style="not bold red")
    assert result.test is not None
    values = [f"{each.title} {metric(each, result.test[each.name])}" for each in result.metrics]
    right = f"{ending(result.status)}, test {', '.join(values)}"
    return text.append(f"{right}; {took}", style="not bold")


def _rescheduling(config: "RunConfig", earlier: Sequence[int]) -> str:
    """The difference between this run and one that was asked for all steps at once."""
    from throughtime.reports.numbers import count, listed

    before = listed([count(steps) for steps in earlier])
    return (
        f"The {config.schedule} schedule depends on the number of steps, and began as that of "
        f"{before} steps: the result is not that of a run of {count(config.steps)} steps at once. "
        "For that one, choose another folder with --out."
    )
