"""`throughtime train`: one model on one task."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import tyro
from rich.text import Text

from throughtime.cli.arguments import option, parse
from throughtime.cli.output import show, show_json
from throughtime.cli.progress import progress
from throughtime.core.errors import ConfigurationError
from throughtime.learning.propagation import Form
from throughtime.models import MODELS
from throughtime.reports.numbers import count, duration, percent
from throughtime.studies import Done, Planned, StudyEvent
from throughtime.studies.specs import slug
from throughtime.tasks import TASKS
from throughtime.training import Event, Result, RunConfig, train
from throughtime.training.config import Schedule


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Train one model on a task. Run it again after Ctrl-C, a crash or a kill: it goes on from the
    last checkpoint, to the same bits; a finished run is not trained again."""

    task: Annotated[tyro.conf.Positional[str], option("TASK", "")]
    """A task, with options: digits, adding:length=200. See: throughtime list tasks"""
    model: Annotated[tyro.conf.Positional[str], option("MODEL", "")]
    """A model, with options: skip-rnn:lag=21,hidden=64. See: throughtime list models"""
    seed: Annotated[int, option("N", "0")] = 0
    """Seed of the weights, the batches and the dropout."""
    steps: Annotated[int, option("N", "1000")] = 1000
    """Updates of the weights, at most."""
    batch_size: Annotated[int, option("N", "64")] = 64
    """Sequences an update."""
    optimizer: Annotated[str, option("NAME", "Adam")] = "Adam"
    """A class of torch.optim, or Nesterov."""
    learning_rate: Annotated[float, option("RATE", "0.001")] = 1e-3
    """Learning rate, at its largest."""
    optimizer_options: Annotated[tuple[str, ...], option("NAME=VALUE", "")] = ()
    """Arguments of the optimizer: momentum=0.9 nesterov=true betas=[0.9,0.99]"""
    learner: Annotated[str, option("LEARNER", "bptt")] = "bptt"
    """How it learns: rtrl, truncated-bptt:window=20. See: throughtime list learners"""
    gradient_propagation: Annotated[float, option("STRENGTH", "none")] = 0.0
    """Penalty on gradients that shrink or grow as they go back (Pascanu et al. 2013)."""
    gradient_propagation_form: Annotated[Form, option(None, "paper")] = "paper"
    """That of the paper, or of its authors' code: ratios squared, and a mean over steps."""
    sparse_outputs: Annotated[float, option("STRENGTH", "none")] = 0.0
    """Penalty on the size of outputs, for sparse gradients of rectified units."""
    schedule: Annotated[Schedule, option(None, "constant")] = "constant"
    """How the learning rate falls."""
    warmup_steps: Annotated[int, option("N", "0")] = 0
    """Updates over which the learning rate rises first."""
    clip_norm: Annotated[float | None, option("NORM", "1.0")] = 1.0
    """Bound on the norm of the gradient, or None."""
    clip_value: Annotated[float | None, option("VALUE", "")] = None
    """Bound on each element of the gradient, or None."""
    evaluate_every: Annotated[int, option("N", "100")] = 100
    """Updates between two evaluations on held-out data."""
    checkpoint_every: Annotated[int, option("N", "500")] = 500
    """Updates between two checkpoints."""
    log_every: Annotated[int, option("N", "10")] = 10
    """Updates between two rows of training metrics."""
    stop_when_solved: Annotated[bool, option(None, "stops")] = True
    """Whether to stop at the first evaluation that meets the task's criterion."""
    device: Annotated[str, option("DEVICE", "cpu")] = "cpu"
    """cpu, cuda or cuda:N."""
    threads: Annotated[int, option("N", "1")] = 1
    """Threads of the CPU that torch uses."""
    data_dir: Annotated[str | None, option("FOLDER", "")] = None
    """Folder of data files, for tasks that read some."""
    tensorboard: Annotated[bool, option(None, "")] = False
    """Write the metrics for TensorBoard too (pip install 'throughtime[tensorboard]')."""
    allow_mismatch: Annotated[bool, option(None, "")] = False
    """Go on with a run of other versions, engines or threads: not reproducible."""
    out: Annotated[Path | None, option("FOLDER", "runs/train-TASK-MODEL-seed-N")] = None
    """Folder of the run."""
    quiet: Annotated[bool, option(None, "")] = False
    """Print the result alone: no progress."""
    json: Annotated[bool, option(None, "")] = False
    """Print the result as one JSON object on stdout; no progress."""


def run(words: Sequence[str]) -> int:
    """Run the command; the exit code."""
    arguments = parse(Arguments, "train", words)
    fields = {field.name for field in dataclasses.fields(RunConfig)}
    values = {name: value for name, value in vars(arguments).items() if name in fields}
    config = RunConfig(**{**values, "optimizer_options": _options(arguments.optimizer_options)})
    TASKS.parse(config.task)  # before there is a folder
    MODELS.parse(config.model)
    name = f"train-{slug(config.task)}-{slug(config.model)}-seed-{config.seed}"
    out = arguments.out if arguments.out is not None else Path("runs") / name
    with progress(quiet=arguments.quiet or arguments.json) as observer:

        def observe(event: Event) -> None:
            observer(StudyEvent(config.model, config.seed, event))

        observer(StudyEvent(config.model, config.seed, Planned(config.steps)))
        result = train(config, out, observer=observe, allow_mismatch=arguments.allow_mismatch)
        observer(StudyEvent(config.model, config.seed, Done(result)))
    if arguments.json:
        show_json({"schema_version": 1, "folder": str(out), **result.to_json()})
    else:
        show(_summary(config, result))
        show(Text(f"run: {out}"))
    return 0


def _summary(config: RunConfig, result: Result) -> Text:
    """One or two lines on how the run ended."""
    text = Text(f"{config.model} on {config.task}, seed {config.seed}: ", style="bold")
    size = f"{count(result.parameters)} parameters"
    took = f"{count(result.step)} steps, {duration(result.seconds)}, {size}"
    if result.diverged is not None:
        where = f"{result.diverged.quantity} not finite at step {count(result.diverged.step)}"
        return text.append(f"diverged ({where}); {took}", style="not bold red")
    assert result.test is not None
    right = f"{result.status}, test accuracy {percent(result.test['accuracy'])}"
    return text.append(f"{right}, loss {result.test['loss']:.4g}; {took}", style="not bold")


def _options(words: Sequence[str]) -> Mapping[str, object]:
    """NAME=VALUE with a value as JSON has it, or else a text."""
    options: dict[str, object] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals or not name or name in options:
            raise ConfigurationError(
                "optimizer options", got=repr(word), expected="NAME=VALUE, each name once"
            )
        try:
            value = json.loads(text)
        except json.JSONDecodeError:
            value = text
        options[name] = tuple(value) if isinstance(value, list) else value
    return options
