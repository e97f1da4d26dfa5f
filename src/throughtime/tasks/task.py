"""The contract of tasks: batches, and the score of a model on them."""

import abc
import types
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from torch import nn

from throughtime.core.errors import ConfigurationError
from throughtime.core.scoring import Batch, Mean, Metric, Score
from throughtime.tasks.kinds import Answers, Inputs

Split = Literal["training", "validation", "test"]
"""A part of a task's data. The last two are held out."""


def check_at_least(subject: str, value: int, minimum: int, fix: str = "") -> None:
    """Raise ConfigurationError unless value >= minimum; `subject` names the option."""
    if value < minimum:
        raise ConfigurationError(subject, got=value, expected=f"at least {minimum}", fix=fix)


class Task(abc.ABC):
    """A problem that needs memory, and the score of a model on it.

    Attributes:
        name: name in `throughtime list`.
        inputs: kind of the inputs.
        answers: kind of the answers.
        length: largest number of time steps.
        dependency_length: steps between the earliest input that the answer needs and the answer.
        criterion: condition under which the task counts as solved, in words, with its source.
        stream: If True, each training batch continues the one before it, row by row.
        sha256: beginning of the checksum of the user's own file, in hexadecimal; "" where the name
            and the options alone determine the data.
        signatures: settings of metrics that `examine` computed, by their names: those of BLEU.
    """

    name: str
    inputs: Inputs
    answers: Answers
    length: int
    dependency_length: int
    criterion: str
    stream: bool = False
    sha256: str = ""
    signatures: Mapping[str, str] = types.MappingProxyType({})

    @property
    @abc.abstractmethod
    def metrics(self) -> tuple[Metric, ...]:
        """The metrics of `report`, the headline first, then those of `examine`."""

    @abc.abstractmethod
    def batches(self, split: Split, size: int, *, seed: int = 0, start: int = 0) -> Iterator[Batch]:
        """Return the batches of a split: pure functions of (seed, step).

        Arguments:
            split: "training", which never ends, or held-out data, which are the same in every run
                and never trained on.
            size: number of items of a batch, at least 1; the last held-out batch may be smaller.
            seed: seed of the run; held-out data do not depend on it.
            start: step of the first batch.

        Raises:
            ConfigurationError: a size below 1.
        """

    @abc.abstractmethod
    def score(
        self, model: nn.Module, batch: Any, *, state: Any = None, step: int | None = None
    ) -> Score:
        """Return the score of a model on a batch.

        Arguments:
            model: model that was built for the task's kinds.
            batch: batch of this task.
            state: state in the score of the batch before, on a stream; None at its start.
            step: training step; None in evaluation, where all parts are computed. In training,
                "loss" may be the only part.
        """

    @abc.abstractmethod
    def report(self, parts: Mapping[str, Mean]) -> dict[str, float]:
        """Return the metrics by name, "loss" among them, from merged means.

        Arguments:
            parts: parts of the scores of all batches.
        """

    @abc.abstractmethod
    def examine(self, model: nn.Module, split: Split) -> dict[str, float]:
        """Return further numbers by name, computed once after training: those that need generation.

        Arguments:
            model: trained model, in evaluation mode.
            split: held-out data.
        """

    @abc.abstractmethod
    def last_answers(self, batch: Any) -> Any:
        """Return the batch in float64 with the last answer of each sequence alone.

        Arguments:
            batch: batch of this task.
        """

    @abc.abstractmethod
    def solved(self, metrics: Mapping[str, float]) -> bool:
        """Return True if held-out metrics meet the criterion.

        Arguments:
            metrics: metrics of `report`.
        """
