"""The training options that `train` and `compare` share."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

from throughtime.cli.arguments import (
    number,
    number_or_none,
    option,
    options,
    switch,
    whole_number,
)
from throughtime.core.errors import ConfigurationError

GROUP = "training"


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """Fields of RunConfig; those that are not given keep their usual values."""

    steps: int | None = option(
        "N", "Updates of the weights, at most.", whole_number, usual="1000", group=GROUP
    )
    batch_size: int | None = option(
        "N", "Sequences an update.", whole_number, usual="64", group=GROUP
    )
    learning_rate: float | None = option(
        "RATE", "Learning rate, at its largest.", number, usual="0.001", group=GROUP
    )
    optimizer: str | None = option(
        "NAME", "A class of torch.optim, or Nesterov.", usual="Adam", group=GROUP
    )
    optimizer_options: tuple[str, ...] = options(
        "NAME=VALUE",
        "Arguments of the optimizer: momentum=0.9 nesterov=true betas=[0.9,0.99]",
        group=GROUP,
    )
    learner: str | None = option(
        "LEARNER",
        "Way of learning: rtrl, truncated-bptt:window=20; several for compare: bptt,rtrl. See: "
        "throughtime list learners",
        usual="bptt",
        group=GROUP,
    )
    feedback: str | None = option(
        "FEEDBACK",
        "Symbols that a language model or a decoder reads in training: teacher, "
        "scheduled-sampling:k=500, free-running, professor-forcing. See: throughtime list feedback",
        usual="teacher",
        group=GROUP,
    )
    gradient_propagation: float | None = option(
        "STRENGTH",
        "Penalty on gradients that shrink or grow as they go back (Pascanu et al. 2013).",
        number,
        usual="0.0",
        group=GROUP,
    )
    gradient_propagation_form: str | None = option(
        "FORM",
        "Form of that penalty: paper, or code for that of its authors: ratios squared, and a mean "
        "over steps.",
        usual="paper",
        group=GROUP,
    )
    sparse_outputs: float | None = option(
        "STRENGTH",
        "Penalty on the size of outputs, for sparse gradients of rectified units.",
        number,
        usual="0.0",
        group=GROUP,
    )
    schedule: str | None = option(
        "NAME",
        "Course of the learning rate: constant, linear, cosine, exponential or halving.",
        usual="constant",
        group=GROUP,
    )
    warmup_steps: int | None = option(
        "N",
        "Updates over which the learning rate rises first.",
        whole_number,
        usual="0",
        group=GROUP,
    )
    clip_norm: float | None = option(
        "NORM",
        "Bound on the norm of the gradient, or none.",
        number_or_none,
        usual="1.0",
        group=GROUP,
    )
    clip_value: float | None = option(
        "VALUE",
        "Bound on each element of the gradient, or none.",
        number_or_none,
        usual="none",
        group=GROUP,
    )
    evaluate_every: int | None = option(
        "N",
        "Updates between two evaluations on held-out data.",
        whole_number,
        usual="100",
        group=GROUP,
    )
    checkpoint_every: int | None = option(
        "N", "Updates between two checkpoints.", whole_number, usual="500", group=GROUP
    )
    log_every: int | None = option(
        "N", "Updates between two rows of training metrics.", whole_number, usual="10", group=GROUP
    )
    dynamic_rate: float | None = option(
        "RATE",
        "Learning rate of a dynamic evaluation on the test text, beside the static one.",
        number,
        usual="0.0",
        group=GROUP,
    )
    stop_when_solved: bool | None = switch(
        "Stop at the first evaluation that meets the task's criterion, or do not.",
        usual="stop",
        group=GROUP,
    )
    tensorboard: bool | None = switch(
        "Write the metrics for TensorBoard too (pip install 'throughtime[tensorboard]').",
        usual="no",
        group=GROUP,
    )


def training_settings(values: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of RunConfig that the words of a command gave.

    Raises:
        ConfigurationError: an optimizer option is not NAME=VALUE.
    """
    names = {field.name for field in dataclasses.fields(TrainingOptions)}
    settings = {name: value for name, value in values.items() if name in names}
    if "optimizer_options" in settings:
        settings["optimizer_options"] = _named_values(settings["optimizer_options"])
    return settings


def _named_values(words: Sequence[str]) -> dict[str, object]:
    """NAME=VALUE with a value as JSON has it, or else a text."""
    found: dict[str, object] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals or not name or name in found:
            raise ConfigurationError(
                "optimizer options", got=repr(word), expected="NAME=VALUE, each name once"
            )
        try:
            value = json.loads(text)
        except json.JSONDecodeError:
            value = text
        found[name] = tuple(value) if isinstance(value, list) else value
    return found
