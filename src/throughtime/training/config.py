"""The configuration of a run: task, model, seed and training, in memory and on disk."""

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

from throughtime.core.errors import ConfigurationError, RunError, UnknownNameError
from throughtime.learning import LEARNERS
from throughtime.learning.propagation import Form
from throughtime.results.atomic import read_json
from throughtime.tasks import TASKS
from throughtime.tasks.task import Task
from throughtime.training.feedback import FEEDBACKS
from throughtime.training.optimizers import OptionValue, check_optimizer
from throughtime.training.run_folder import RunFolder

Schedule = Literal["constant", "linear", "cosine", "exponential", "halving"]

_AT_LEAST_ONE = (
    "steps",
    "batch_size",
    "evaluate_every",
    "checkpoint_every",
    "log_every",
    "threads",
)
_AT_LEAST_ZERO = ("seed", "warmup_steps")
_BEYOND_IDENTITY = ("data_dir", "tensorboard")
_MOST_THREADS = 1024
_OF_THE_RUN = ("task", "model", "seed", "threads")


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """One training run. Its values are checked when it is made; task and model when it is trained.

    Attributes:
        task: registry text: "digits", "adding:length=100".
        model: registry text: "lstm:hidden=64".
        seed: seed of the weights, the batches and the dropout; 0 to 2^63 - 1.
        steps: updates of the weights, at most.
        batch_size: sequences an update.
        optimizer: a class of torch.optim, by name, "Nesterov" or "Rescaled".
        learning_rate: its largest value, which the schedule scales.
        optimizer_options: further arguments of the optimiser's class: {"momentum": 0.9}.
        learner: registry text of the way of learning: "rtrl", "truncated-bptt:window=20". A search
            tries weights on the first batch; optimizer and learning rate are then idle.
        feedback: registry text of the symbols that a language model or a decoder reads in training:
            "teacher" for the true ones, "scheduled-sampling:k=500".
        gradient_propagation: strength of the penalty on gradients that shrink or grow as they go
            back (Pascanu et al. 2013); 0 for none.
        gradient_propagation_form: form of the penalty: that of the "paper", or of its
            authors' "code".
        sparse_outputs: strength of the penalty on the size of outputs, which makes the gradients of
            rectified units sparse; 0 for none.
        schedule: course of the learning rate; see `training.optimizers`.
        warmup_steps: updates over which the learning rate rises first.
        clip_norm: bound on the norm of the whole gradient, or None.
        clip_value: bound on the size of each of its elements, applied before the norm's, or None.
        evaluate_every: updates between two evaluations on held-out data; the last is one, too.
        checkpoint_every: updates between two checkpoints.
        log_every: updates between two rows of training metrics, which are means over them.
        dynamic_rate: learning rate of a dynamic evaluation on the test text, beside the static one;
            0 for none. See `dynamic_evaluation`.
        stop_when_solved: stop at the first evaluation that meets the task's criterion.
        device: "cpu", "cuda" or "cuda:N".
        threads: threads of the CPU that torch uses during the run, at most 1024.
        data_dir: local folder for data files; not part of the run's identity.
        tensorboard: write the metrics for TensorBoard too; not part of the run's identity.

    Raises:
        ConfigurationError: a value is of the wrong type, out of range, or contradicts another.
        UnknownNameError: no such optimiser or learner, or it has no such option.

    Example:
        >>> config = RunConfig(task="adding:length=100", model="lstm:hidden=64", steps=2000)
        >>> RunConfig.from_json(config.to_json()) == config
        True
    """

    task: str
    model: str
    seed: int = 0
    steps: int = 1000
    batch_size: int = 64
    optimizer: str = "Adam"
    learning_rate: float = 1e-3
    optimizer_options: Mapping[str, OptionValue] = dataclasses.field(
        default_factory=dict, hash=False
    )
    learner: str = "bptt"
    feedback: str = "teacher"
    gradient_propagation: float = 0.0
    gradient_propagation_form: Form = "paper"
    sparse_outputs: float = 0.0
    schedule: Schedule = "constant"
    warmup_steps: int = 0
    clip_norm: float | None = 1.0
    clip_value: float | None = None
    evaluate_every: int = 100
    checkpoint_every: int = 500
    log_every: int = 10
    dynamic_rate: float = 0.0
    stop_when_solved: bool = True
    device: str = "cpu"
    threads: int = 1
    data_dir: str | None = None
    tensorboard: bool = False

    def __post_init__(self) -> None:
        for name in ("task", "model", "optimizer", "learner", "feedback", "device"):
            if not isinstance(getattr(self, name), str) or not getattr(self, name):
                raise _wrong(name, getattr(self, name), "a name")
        if self.data_dir is not None and not isinstance(self.data_dir, str):
            raise _wrong("data_dir", self.data_dir, "the path of a folder, or none")
        for name in ("stop_when_solved", "tensorboard"):
            if not isinstance(getattr(self, name), bool):
                raise _wrong(name, getattr(self, name), "true or false")
        for name in (*_AT_LEAST_ONE, *_AT_LEAST_ZERO):
            value, least = getattr(self, name), int(name in _AT_LEAST_ONE)
            if not isinstance(value, int) or isinstance(value, bool) or not least <= value < 2**63:
                raise _wrong(name, value, f"a whole number, at least {least}")
        if self.threads > _MOST_THREADS:  # or the threads of OpenMP end the process
            raise _wrong("threads", self.threads, f"at most {_MOST_THREADS:,}")
        for name in ("learning_rate", "clip_norm", "clip_value"):
            value = getattr(self, name)
            if value is None and name != "learning_rate":
                continue
            if not _is_above_zero(value):
                raise _wrong(name, value, "a number above 0")
        for name in ("gradient_propagation", "sparse_outputs", "dynamic_rate"):
            value = getattr(self, name)
            if value != 0 and not _is_above_zero(value):
                raise _wrong(name, value, "a number of at least 0")
        LEARNERS.parse(self.learner)
        FEEDBACKS.parse(self.feedback)
        if self.gradient_propagation_form not in get_args(Form):
            form = str(self.gradient_propagation_form)
            raise UnknownNameError("gradient_propagation_form", form, get_args(Form))
        if self.schedule not in get_args(Schedule):
            raise UnknownNameError("schedule", str(self.schedule), get_args(Schedule))
        if self.warmup_steps >= self.steps:
            raise ConfigurationError(
                "the warmup takes the whole run",
                got=f"warmup_steps={self.warmup_steps} of steps={self.steps}",
                expected="fewer warmup steps than steps",
            )
        if self.optimizer == "Rprop" and (self.schedule != "constant" or self.warmup_steps):
            raise ConfigurationError(
                "Rprop finds its own step sizes: a schedule has no effect on it",
                got=f"schedule={self.schedule!r}, warmup_steps={self.warmup_steps}",
                expected="schedule='constant', warmup_steps=0",
            )
        options = check_optimizer(self.optimizer, self.optimizer_options)
        object.__setattr__(self, "optimizer_options", options)

    def to_json(self) -> dict[str, object]:
        """All fields, as JSON has them."""
        document = dataclasses.asdict(self)
        document["optimizer_options"] = {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in self.optimizer_options.items()
        }
        return document

    @classmethod
    def from_json(
        cls, document: Mapping[str, object], where: str = "the run's configuration"
    ) -> "RunConfig":
        """The configuration that `to_json` wrote.

        Arguments:
            document: the fields; those that have defaults may be absent.
            where: name of the document, for the error message.

        Raises:
            RunError: a field is missing, or there is one that this version lacks.
            ConfigurationError: as for RunConfig itself.
        """
        fields = {field.name: field for field in dataclasses.fields(cls)}
        unknown = sorted(document.keys() - fields.keys())
        missing = sorted({"task", "model"} - document.keys())
        if unknown or missing:
            raise RunError(
                f"{where} is not that of a run",
                got=", ".join([*unknown, *(f"no {name}" for name in missing)]),
                expected=f"task, model, and any other of: {', '.join(sorted(fields))}",
                fix="Use the version of throughtime that wrote it, or choose another folder.",
            )
        values: dict[str, Any] = dict(document)
        options = values.get("optimizer_options")
        if isinstance(options, Mapping):  # JSON has no tuples
            values["optimizer_options"] = {
                name: tuple(value) if isinstance(value, list) else value
                for name, value in options.items()
            }
        return cls(**values)

    def identity(self) -> dict[str, object]:
        """The fields that decide the results: all but where data lies and what else is logged."""
        return {
            name: value for name, value in self.to_json().items() if name not in _BEYOND_IDENTITY
        }

    def settings(self) -> dict[str, object]:
        """The fields that all runs of one configuration of a comparison share: the identity without
        task, model, seed and threads."""
        return {name: value for name, value in self.identity().items() if name not in _OF_THE_RUN}


def _is_above_zero(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf


def _wrong(name: str, value: object, expected: str) -> ConfigurationError:
    return ConfigurationError(f"{name} of the run", got=repr(value), expected=expected)


def read_config(folder: Path) -> RunConfig:
    """Return the configuration in the folder of a run."""
    file = RunFolder(folder).config
    return RunConfig.from_json(read_json(file), str(file))


def build_task(config: RunConfig) -> Task:
    """The task of a run, from the registry.

    Raises:
        UnknownNameError, ConfigurationError: no such task, or it does not take these options,
            such as a `data_dir` for a task that reads no files.
        DataError: its files are missing or not whole.
    """
    if config.data_dir is None:
        return TASKS.build(config.task)
    name, options = TASKS.parse(config.task)
    if "data_dir" not in TASKS.options(name):
        raise ConfigurationError(
            f"task {name!r} reads no files",
            got=f"data_dir={config.data_dir!r}",
            fix="Leave it out.",
        )
    if "data_dir" in options:
        raise ConfigurationError(
            f"task {config.task!r} names a data_dir", got="another one in the run", fix="Name one."
        )
    return TASKS.build(config.task, data_dir=config.data_dir)


def with_checksum(config: RunConfig) -> RunConfig:
    """Return the configuration with the checksum of the user's own file in the task's options.

    The checksum is part of the run's identity: a run does not go on with another content.

    Raises:
        UnknownNameError, ConfigurationError, DataError: as for `build_task`.
    """
    name, options = TASKS.parse(config.task)
    own = {"file", "source"} & options.keys() and "sha256" in TASKS.options(name)
    if not own or "sha256" in options:
        return config
    checksum = build_task(config).sha256
    task = f"{config.task},sha256={checksum}" if checksum else config.task
    return dataclasses.replace(config, task=task)
