"""The usual settings of the training of each model on each task: one plain table.

The values are our choice; they are no paper's. The learning rates of digits are those of 0.001,
0.002, 0.004, 0.01 and 0.02 with the best validation accuracy over the seeds 100 and 101, which a
comparison of a few seeds does not use; the other tasks are not tuned.
"""

from collections.abc import Mapping
from typing import Any

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

    Arguments:
        task, model: names without options.

    Example:
        >>> settings("digits", "lstm")["batch_size"]
        64
    """
    return {**COMMON, **BY_TASK.get(task, {}), **BY_TASK_AND_MODEL.get((task, model), {})}
