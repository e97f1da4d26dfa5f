"""A run's whole state as safetensors and JSON, never pickle; the model of a run, read back."""

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from throughtime.core.errors import ConfigurationError, RunError, RunMismatchError
from throughtime.models import build_model
from throughtime.results.atomic import json_bytes, read_json, read_whole, write_flushed
from throughtime.results.fields import from_document
from throughtime.tasks.task import Task
from throughtime.training.config import RunConfig, build_task, read_config
from throughtime.training.reproducibility import Environment, reproducible, run_device
from throughtime.training.run_folder import RunFolder

_TENSORS = "tensors.safetensors"
_STATE = "state.json"
_PARTS = ("model", "optimizer", "learner", "random")


@dataclasses.dataclass
class RunState:
    """Progress of a run, beside its tensors.

    Attributes:
        step: updates done.
        seconds: time of the updates and evaluations, over all starts.
        clipped: updates whose gradient was clipped.
        interval_steps, interval_loss, interval_norm, interval_clipped: the sums of which
            the next training row of the metrics will be the means.
        evaluated_at: the step at which held-out data were evaluated last, or 0.
        validation: the metrics then, or None.
        metrics_bytes: size of metrics.jsonl.
        level: largest level of the training sequences under a curriculum; 0 without.
        level_losses: losses of the last updates at that level, in order.
    """

    step: int = 0
    seconds: float = 0.0
    clipped: int = 0
    interval_steps: int = 0
    interval_loss: float = 0.0
    interval_norm: float = 0.0
    interval_clipped: int = 0
    evaluated_at: int = 0
    validation: dict[str, float] | None = None
    metrics_bytes: int = 0
    level: int = 0
    level_losses: list[float] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """All that a run needs to go on to the same bits. The learning rate is a function of the step.

    Attributes:
        state: progress of the run.
        model: the model's state_dict.
        optimizer: the optimiser's state_dict.
        random: the states of torch's generators, by the type of their device.
        environment: environment in which it ran until then.
        learner: tensors that the learner carries between updates, a stream's state among them.
    """

    state: RunState
    model: Mapping[str, Any]
    optimizer: Mapping[str, Any]
    random: Mapping[str, Tensor]
    environment: Environment
    learner: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def save_checkpoint(checkpoint: Checkpoint, folder: Path) -> None:
    """Write tensors.safetensors and state.json into a folder that nobody reads yet.

    Raises:
        RunWriteError: the disk is full, or the folder cannot be written.
        ConfigurationError: the model or the optimiser holds what is neither a tensor nor plain.
    """
    import safetensors.torch

    tensors: dict[str, Tensor] = {}
    states = {name: _encode(getattr(checkpoint, name), name, tensors) for name in _PARTS}
    content = safetensors.torch.save(tensors)
    state = {
        "run": dataclasses.asdict(checkpoint.state),
        "environment": dataclasses.asdict(checkpoint.environment),
        "tensors_sha256": hashlib.sha256(content).hexdigest(),
        **states,
    }
    state["sha256"] = _digest(state)
    write_flushed(folder / _TENSORS, content)
    write_flushed(folder / _STATE, json_bytes(state))


def load_checkpoint(folder: Path) -> Checkpoint:
    """Return the checkpoint that `save_checkpoint` wrote, on the CPU, to the same bits.

    Raises:
        RunError: a file is missing, cut short or damaged.
        RunVersionError: it was written in another version of the format.
    """
    import safetensors
    import safetensors.torch

    state = read_json(folder / _STATE)
    content = read_whole(folder / _TENSORS)
    try:
        # Checkpoints of earlier versions have no checksum of this file; they are read without.
        if "sha256" in state and state.pop("sha256") != _digest(state):
            raise ValueError(f"{_STATE} has another SHA-256 than it says")
        if hashlib.sha256(content).hexdigest() != state["tensors_sha256"]:
            raise ValueError(
                f"{_TENSORS} of {len(content)} bytes has another SHA-256 than {_STATE} says"
            )
        tensors = safetensors.torch.load(content)
        state.setdefault("learner", {"dict": []})  # of runs before there were learners
        parts = {name: _decode(state[name], tensors) for name in _PARTS}
        for name, part in parts.items():
            if not isinstance(part, dict):
                raise TypeError(f"{name} is {type(part).__name__}, not a dict")
        run = from_document(RunState, state.pop("run"), "run")
        environment = from_document(Environment, state.pop("environment"), "environment")
        for name in (*_PARTS, "tensors_sha256"):
            del state[name]
        if state:  # one wrong bit may make another name of the checksum's
            raise ValueError(f"{_STATE} has the unknown entry {min(state)!r}")
        return Checkpoint(state=run, environment=environment, **parts)
    except (
        *(KeyError, TypeError, ValueError, AttributeError, RecursionError),
        safetensors.SafetensorError,
    ) as error:
        raise RunError(
            f"{folder} is damaged",
            got=f"{type(error).__name__}: {error}",
            expected=f"{_TENSORS} and {_STATE} as they were written",
            fix="Write the name of an earlier checkpoint, if there is one, into the file 'latest' "
            "beside it, or rename the run's folder and start anew.",
        ) from error


def _digest(state: Mapping[str, Any]) -> str:
    """Return the checksum of the content, whatever its spaces and the order of its names."""
    text = json.dumps(state, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _encode(value: object, path: str, tensors: dict[str, Tensor]) -> object:
    """JSON of nested values; {"tensor": name} stands for a tensor, which goes into `tensors`.

    Tuples, dicts (whose keys may be numbers) and numbers that JSON lacks are marked in the same
    way: {"tuple": [...]}, {"dict": [[key, value], ...]}, {"float": "inf"}.
    """
    if isinstance(value, Tensor):
        # safetensors refuses tensors that share memory, as tied weights do.
        tensors[path] = value.detach().to("cpu", copy=True).contiguous()
        return {"tensor": path}
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {"float": repr(value)}
    if isinstance(value, Mapping):
        return {
            "dict": [[key, _encode(item, f"{path}.{key}", tensors)] for key, item in value.items()]
        }
    if isinstance(value, list | tuple):
        items = [_encode(item, f"{path}.{index}", tensors) for index, item in enumerate(value)]
        return items if isinstance(value, list) else {"tuple": items}
    raise ConfigurationError(
        f"{path} cannot be kept in a checkpoint",
        got=type(value).__name__,
        expected="a tensor, a number, text, none, or a list, tuple or dict of these",
    )


def _decode(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    if isinstance(value, list):
        return [_decode(item, tensors) for item in value]
    if not isinstance(value, dict):
        return value
    ((mark, content),) = value.items()
    if mark == "tensor":
        return tensors[content]
    if mark == "float":
        return float(content)
    if mark == "tuple":
        return tuple(_decode(item, tensors) for item in content)
    if mark == "dict":
        return {key: _decode(item, tensors) for key, item in content}
    raise ValueError(f"a value marked {mark!r}")


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
    config = read_config(files.path)
    _trained_step(files)
    with reproducible(run_device("cpu"), config.threads, config.seed):
        task = build_task(config)
        model = build_model(config.model, task.inputs, task.answers)
    if trained:
        load_weights(model, files, config)
    return config, task, model


def load_weights(model: nn.Module, files: RunFolder, config: RunConfig) -> None:
    """Set a model to the weights of the latest checkpoint of a run.

    Arguments:
        model: model that the configuration names.
        files: folder of the run.
        config: configuration of the run.

    Raises:
        RunError: there is no checkpoint yet, or one that is damaged.
        RunMismatchError: the checkpoint is of another model.
        RunVersionError: it was written in another version of the format.
    """
    folder = files.checkpoint(_trained_step(files))
    weights = load_checkpoint(folder).model
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise RunMismatchError(
            f"{folder} does not fit model {config.model!r}",
            got=str(error),
            fix=f"Bring back the {files.config.name} that it was trained with.",
        ) from error


def _trained_step(files: RunFolder) -> int:
    step = files.latest_step()
    if step is None:
        raise RunError(
            f"{files.path} holds no checkpoint yet",
            fix="Train it first: the same call goes on with it.",
        )
    return step
