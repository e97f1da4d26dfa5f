"""The task and the model that a configuration names, and a trained model back from its folder."""

import dataclasses
from pathlib import Path

from torch import nn

from throughtime.core.errors import ConfigurationError, RunError, RunMismatchError
from throughtime.models import build_model
from throughtime.results.atomic import read_json
from throughtime.tasks import TASKS
from throughtime.tasks.task import Task
from throughtime.training.checkpoint import load_checkpoint
from throughtime.training.config import RunConfig
from throughtime.training.reproducibility import reproducible, run_device
from throughtime.training.run_folder import RunFolder


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

    Arguments:
        config: configuration; it is returned as it is if its task reads no such file, or has the
            checksum already.

    Raises:
        UnknownNameError, ConfigurationError, DataError: as for `build_task`.
    """
    _, options = TASKS.parse(config.task)
    if options.get("file") is None or "sha256" in options:
        return config
    checksum = build_task(config).sha256
    task = f"{config.task},sha256={checksum}" if checksum else config.task
    return dataclasses.replace(config, task=task)


def load_model(folder: str | Path, *, trained: bool = True) -> tuple[RunConfig, Task, nn.Module]:
    """A run's configuration, task and model on the CPU, as it is now or as it began.

    Arguments:
        folder: folder of the run, finished or not.
        trained: the weights of the latest checkpoint; else those drawn before the first update.

    Raises:
        RunError: there is no run, no checkpoint yet, or one that is damaged.
        RunVersionError: it was written in another version of the format.
    """
    files = RunFolder(Path(folder))
    config = RunConfig.from_json(read_json(files.config), str(files.config))
    step = files.latest_step()
    if step is None:
        raise RunError(
            f"{folder} holds no checkpoint yet",
            fix="Train it first: the same call goes on with it.",
        )
    with reproducible(run_device("cpu"), config.threads, config.seed):
        task = build_task(config)
        model = build_model(config.model, task.inputs, task.answers)
    if trained:
        weights = load_checkpoint(files.checkpoint(step)).model
        try:
            model.load_state_dict(weights)
        except RuntimeError as error:
            raise RunMismatchError(
                f"{files.checkpoint(step)} does not fit model {config.model!r}",
                got=str(error),
                fix=f"Bring back the {files.config.name} that it was trained with.",
            ) from error
    return config, task, model
