"""What a task is: batches with a known answer, a dependency length, chance, and a criterion."""

import abc
from collections.abc import Iterator, Mapping
from typing import Literal, NamedTuple

import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from throughtime.tasks.kinds import Classes, Inputs, Values, Vectors

# Which held-out sequences.
Split = Literal["validation", "test"]


class Batch(NamedTuple):
    """Sequences and their answers, time first.

    Attributes:
        inputs: (time, batch, input), float32; zeros beyond a sequence's length.
        targets: (batch,) int64 classes, (batch, output) float32 values, (time, batch) int64
            classes with -1 where no answer is due, or (time, batch, output) float32 values; as the
            task's `answer` says.
        lengths: (batch,) int64 on the CPU, or None where all sequences fill the time axis.
    """

    inputs: Float[Tensor, "time batch input"]
    targets: Tensor
    lengths: Int[Tensor, " batch"] | None = None


class Task(abc.ABC):
    """A problem that needs memory, and how to tell whether a network has solved it.

    Batches are pure functions of (seed, step), so that a run can be taken up again anywhere.

    Attributes:
        name: as in `throughtime list`.
        input_size: width of x_t.
        output_size: classes, or width of the value that is asked for.
        length: the largest number of time steps.
        dependency_length: steps between the earliest input that the answer needs and the answer.
        answer: "class" and "value" are asked for once, after the last step; "class_per_step" and
            "value_per_step" at steps.
        chance: accuracy in [0, 1] of the best answer that remembers nothing.
        chance_loss: the loss of that answer.
        criterion: when the task counts as solved, in words, with its source.
        stream: whether each training batch goes on where the one before it ended, row by row.
    """

    name: str
    input_size: int
    output_size: int
    length: int
    dependency_length: int
    answer: Literal["class", "value", "class_per_step", "value_per_step"]
    chance: float
    chance_loss: float
    criterion: str
    stream: bool = False

    @property
    def inputs(self) -> Inputs:
        """The kind of the inputs."""
        return Vectors(self.input_size)

    @property
    def answers(self) -> Classes | Values:
        """The kind of the answers."""
        kind = Classes if self.answer.startswith("class") else Values
        return kind(self.output_size, self.answers_at_steps)

    @property
    def answers_at_steps(self) -> bool:
        """Whether an answer is asked for at steps, rather than after the last one."""
        return self.answer.endswith("_per_step")

    @abc.abstractmethod
    def training_batch(self, step: int, batch_size: int, seed: int) -> Batch:
        """The batch of training step `step` (from 0) of the run with this seed."""

    @abc.abstractmethod
    def evaluation_batches(self, split: Split, batch_size: int) -> Iterator[Batch]:
        """The held-out sequences: the same in every run; of a finite set, never trained on."""

    @abc.abstractmethod
    def correct(
        self, outputs: Float[Tensor, "... batch output"], batch: Batch
    ) -> Bool[Tensor, "..."]:
        """Which answers are right by the task's own tolerance: one a sequence or answered step."""

    @abc.abstractmethod
    def solved(self, metrics: Mapping[str, float]) -> bool:
        """Whether held-out metrics ("loss", "accuracy") meet the criterion."""

    def loss(self, outputs: Float[Tensor, "... batch output"], batch: Batch) -> Float[Tensor, ""]:
        """Mean cross-entropy (nats) for classes, mean squared error for values.

        Arguments:
            outputs: (batch, output), or (time, batch, output) where answers are asked for at steps.
            batch: where the targets are.
        """
        if self.answer in ("value", "value_per_step"):
            return F.mse_loss(outputs, batch.targets)
        if self.answer == "class_per_step":
            return F.cross_entropy(outputs.flatten(0, 1), batch.targets.flatten(), ignore_index=-1)
        return F.cross_entropy(outputs, batch.targets)
