"""Tasks of sequences with known answers: classes, values or bits, at the end or at steps."""

import abc
import dataclasses
import itertools
from collections.abc import Iterator, Mapping
from typing import Literal, NamedTuple, TypeAlias, final

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor, nn

from throughtime.core.scoring import Mean, Metric, Score, Steps, merged
from throughtime.tasks.kinds import Bits, Classes, Tokens, Values, Vectors
from throughtime.tasks.seeding import generator
from throughtime.tasks.task import Split, Task, check_at_least

Outputs: TypeAlias = Float[Tensor, "..."]
"""Outputs of a model: (batch, output), or (time, batch, output) where answers are due at steps."""

Targets: TypeAlias = Shaped[Tensor, "..."]
"""Answers in the layout of the task's kind of answers."""

Right: TypeAlias = Bool[Tensor, "..."]
"""True for each answer that is right."""


class SequenceBatch(NamedTuple):
    """Sequences and their answers, time first.

    Attributes:
        inputs: (time, batch, input) float32 vectors, or (time, batch) int64 symbols; zeros beyond a
            sequence's length.
        targets: (batch,) or (time, batch) int64 classes, -1 where no answer is due; or
            (batch, output) or (time, batch, output) float32 values, or bits, NaN where none is due.
        lengths: (batch,) int64 on the CPU, or None where all sequences fill the time axis.
    """

    inputs: Tensor
    targets: Tensor
    lengths: Int[Tensor, " batch"] | None = None

    @property
    def size(self) -> int:
        """The number of sequences."""
        return self.inputs.shape[1]

    def to(self, device: torch.device) -> "SequenceBatch":
        """Return the batch with inputs and targets on a device; lengths stay on the CPU.

        Arguments:
            device: device of the model.
        """
        return self._replace(inputs=self.inputs.to(device), targets=self.targets.to(device))


class SequenceTask(Task):
    """A task whose sequences have known answers.

    Attributes:
        inputs: kind of the inputs.
        answers: kind of the answers.
        chance: accuracy in [0, 1] of the best answer that remembers nothing.
        chance_loss: loss of that answer.
        chance_wrong: wrong bits a sequence of that answer, where answers are bits.
        longer: task of longer sequences, on which `examine` measures the headline; None for none.
        counted: numbers n, from 1; the accuracy of the n-th answers of each class in their
            sequences is a metric of its own. For classes at steps.
    """

    inputs: Vectors  # pyright: ignore[reportIncompatibleVariableOverride]
    answers: Classes | Values | Bits  # pyright: ignore[reportIncompatibleVariableOverride]
    chance: float
    chance_loss: float
    chance_wrong: float = 0.0
    longer: "DrawnTask | None" = None
    counted: tuple[int, ...] = ()

    @abc.abstractmethod
    def right(self, outputs: Outputs, targets: Targets) -> Right:
        """Return True for each answer that is right by the task's own tolerance.

        Where answers are bits, that is one value a sequence: True if all its bits are right.

        Arguments:
            outputs: (batch, output), or (time, batch, output) where answers are due at steps.
            targets: targets of the batch.
        """

    @property
    @final
    def metrics(self) -> tuple[Metric, ...]:
        """Accuracy and loss; before them, the wrong bits a sequence where answers are bits."""
        is_value = isinstance(self.answers, Values)
        unit = "squared error" if is_value else "nats"
        found = (
            Metric("accuracy", "fraction", "higher", self.chance),
            Metric("loss", unit, "lower", self.chance_loss, tables=is_value),
        )
        if isinstance(self.answers, Bits):
            found = (Metric("wrong_bits", "bits a sequence", "lower", self.chance_wrong), *found)
        found += tuple(
            Metric(f"accuracy_at_{n}", "fraction", "higher", self.chance) for n in self.counted
        )
        if self.longer is not None:
            beyond = self.longer.metrics[0]
            found = (*found, dataclasses.replace(beyond, name=f"{beyond.name}_when_longer"))
        return found

    @final
    def score(
        self,
        model: nn.Module,
        batch: SequenceBatch,
        *,
        state: object = None,
        step: int | None = None,
    ) -> Score:
        """Return the mean cross-entropy in nats, of a bit where answers are bits; or squared error.

        In training on a stream, the model starts from the state that it had after the batch before.

        Arguments:
            model: called as model(inputs, lengths); on a stream as model.carried(inputs, state).
            batch: sequences.
            state: state of the score before.
            step: training step; None in evaluation, which also has the parts "accuracy" and, where
                answers are bits, "wrong_bits".
        """
        if self.stream and step is not None:
            outputs, state = model.carried(batch.inputs, state)  # pyright: ignore[reportCallIssue]
        else:
            outputs, state = model(batch.inputs, batch.lengths), None
        loss = self.answers.loss(outputs, batch.targets)
        count = self.answers.due(batch.targets).sum()
        # without answers the loss is 0 / 0
        total = torch.where(count > 0, loss.detach().double() * count, 0.0)
        parts = {"loss": Mean(total, count)}
        if step is None:
            right = self.right(outputs.detach(), batch.targets)
            parts["accuracy"] = Mean(right.sum(), torch.tensor(right.numel(), device=loss.device))
            if self.counted:
                number = occurrences(batch.targets)[self.answers.due(batch.targets)]
                for n in self.counted:
                    parts[f"accuracy_at_{n}"] = Mean(right[number == n].sum(), (number == n).sum())
            if isinstance(self.answers, Bits):
                wrong = self.answers.wrong(outputs.detach(), batch.targets)
                parts["wrong_bits"] = Mean(
                    wrong.sum(), torch.tensor(batch.size, device=loss.device)
                )
        return Score(loss, parts, state)

    @final
    def report(self, parts: Mapping[str, Mean]) -> dict[str, float]:
        """Return "loss", "accuracy", "wrong_bits" of bits, and "accuracy_at_n" of counted answers.

        Arguments:
            parts: merged parts of scores in evaluation.
        """
        names = ("loss", "accuracy", "wrong_bits", *(f"accuracy_at_{n}" for n in self.counted))
        return {name: parts[name].value for name in names if name in parts}

    @final
    def examine(self, model: nn.Module, split: Split) -> dict[str, float]:
        """Return the headline on longer sequences, where the task has some.

        Arguments:
            model: trained model, in evaluation mode.
            split: held-out data.
        """
        longer = self.longer
        if longer is None:
            return {}
        device = next(model.parameters()).device
        with torch.no_grad():
            batches = longer.batches(split, BLOCK)
            found = [longer.score(model, batch.to(device)).parts for batch in batches]
        name = longer.metrics[0].name
        return {f"{name}_when_longer": merged(found)[name].value}

    @final
    def steps(self, batch: SequenceBatch) -> Steps:
        """Return the targets of each step, weighted such that the sum is the loss of `score`.

        Arguments:
            batch: sequences.
        """
        x, targets = batch.inputs, batch.targets
        time, count = x.shape[:2]
        if self.answers.per_step:
            due = self.answers.due(targets)
            weights = due.to(x.dtype) * (count / due.sum().to(x.dtype))
        else:
            last = torch.full((count,), time) if batch.lengths is None else batch.lengths
            weights = F.one_hot(last - 1, time).T.to(x)
            targets = targets.expand(time, *targets.shape)
        return Steps(x, targets, weights)

    @final
    def step_losses(
        self, outputs: Float[Tensor, "row output"], targets: Targets
    ) -> Float[Tensor, " row"]:
        """Return the loss of each answer.

        Arguments:
            outputs: answers of a model, one a row.
            targets: their targets.
        """
        return self.answers.losses(outputs, targets)

    @final
    def last_answers(self, batch: SequenceBatch) -> SequenceBatch:
        """Return the sequences in float64 with the last class or bits of each alone; all values.

        Arguments:
            batch: sequences.
        """
        targets = batch.targets
        if isinstance(self.answers, Classes) and self.answers.per_step:
            steps = torch.arange(len(targets))[:, None]
            last = torch.where(targets >= 0, steps, -1).amax(dim=0)
            targets = torch.where(steps == last, targets, -1)
        if isinstance(self.answers, Bits) and self.answers.per_step:
            steps = torch.arange(len(targets))[:, None]
            last = torch.where(self.answers.due(targets), steps, -1).amax(dim=0)
            targets = torch.where((steps == last)[..., None], targets, torch.nan)
        symbols = isinstance(self.inputs, Tokens)
        inputs = batch.inputs if symbols else batch.inputs.double()
        return batch._replace(inputs=inputs, targets=targets)


def likeliest(
    outputs: Float[Tensor, "*rows class"], targets: Int[Tensor, "*rows"]
) -> Bool[Tensor, " answer"]:
    """Return True for each answer that is due and has the largest output."""
    due = targets >= 0
    return outputs.argmax(dim=-1)[due] == targets[due]


def occurrences(targets: Int[Tensor, "time batch"]) -> Int[Tensor, "time batch"]:
    """Return the number of equal answers up to each one in its sequence; 0 where none is due.

    Example:
        >>> occurrences(torch.tensor([[2], [0], [-1], [2], [2]])).T
        tensor([[1, 1, 0, 2, 3]])
    """
    classes = F.one_hot(targets + 1).cumsum(0)
    return classes.gather(-1, targets[..., None] + 1)[..., 0].where(targets >= 0, 0)


def within(
    tolerance: float, outputs: Float[Tensor, "*rows 1"], targets: Float[Tensor, "*rows 1"]
) -> Bool[Tensor, "*rows"]:
    """Return True for each value whose error is below the tolerance."""
    return ((outputs - targets).abs() < tolerance).squeeze(-1)


# Sequences held out. 2,560 is Hochreiter & Schmidhuber's test set.
HELD_OUT: dict[Split, int] = {"validation": 1_024, "test": 2_560}
# Held-out sequences are drawn in blocks of this size whatever the batch size, so that they are the
# same in every run.
BLOCK = 128


class DrawnTask(SequenceTask, abc.ABC):
    """A task that draws any number of sequences from a random generator."""

    @abc.abstractmethod
    def draw(self, random: np.random.Generator, batch_size: int) -> SequenceBatch:
        """Sequences and answers as a pure function of the generator's state.

        The time axis always has `self.length` steps.
        """

    @abc.abstractmethod
    def draw_training(self, random: np.random.Generator, batch_size: int) -> SequenceBatch:
        """A training batch as a pure function of the generator's state, of any number of steps."""

    @final
    def batches(
        self, split: Split, size: int, *, seed: int = 0, start: int = 0
    ) -> Iterator[SequenceBatch]:
        """Return fresh draws of (seed, "training", step), or the held-out sequences.

        There are 1,024 sequences for validation and 2,560 for test.
        """
        check_at_least("batch_size", size, 1)
        if split == "training":
            steps = itertools.count(start)
            return (self.draw_training(generator(seed, "training", step), size) for step in steps)
        return itertools.islice(self._held_out(split, size), start, None)

    def _held_out(self, split: Literal["validation", "test"], size: int) -> Iterator[SequenceBatch]:
        """Cut the blocks of a split into batches of another size."""
        axis = 1 if self.answers.per_step else 0  # of the sequences, in the targets

        def part(batch: SequenceBatch, first: int, count: int) -> SequenceBatch:
            return SequenceBatch(
                batch.inputs.narrow(1, first, count),
                batch.targets.narrow(axis, first, count),
                None if batch.lengths is None else batch.lengths.narrow(0, first, count),
            )

        def joined(one: SequenceBatch, other: SequenceBatch) -> SequenceBatch:
            lengths = [each.lengths for each in (one, other) if each.lengths is not None]
            return SequenceBatch(
                torch.cat((one.inputs, other.inputs), 1),
                torch.cat((one.targets, other.targets), axis),
                torch.cat(lengths) if lengths else None,
            )

        pending: SequenceBatch | None = None
        for index in range(HELD_OUT[split] // BLOCK):
            block = self.draw(generator(0, split, index), BLOCK)
            pending = block if pending is None else joined(pending, block)
            while pending.size >= size:
                yield part(pending, 0, size)
                pending = part(pending, size, pending.size - size)
        if pending is not None and pending.size > 0:
            yield pending


class GeneratedTask(DrawnTask):
    """A task whose training batches are drawn as held-out sequences are."""

    @final
    def draw_training(self, random: np.random.Generator, batch_size: int) -> SequenceBatch:
        """Return what `draw` returns.

        Arguments:
            random: generator of the batch.
            batch_size: number of sequences.
        """
        return self.draw(random, batch_size)
