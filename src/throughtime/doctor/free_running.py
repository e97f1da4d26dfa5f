"""Exposure bias: the loss of a model that reads its own symbols, beside that after true ones."""

import itertools
import math
from collections.abc import Sequence
from typing import Any, final

import torch
from torch import Tensor, nn

from throughtime.core.decoding import NextSymbol
from throughtime.core.errors import ConfigurationError
from throughtime.doctor.brief_training import Trial
from throughtime.doctor.intervals import difference, estimate, mean
from throughtime.doctor.remedies import LEAST_SECONDS, Condition, Trainer
from throughtime.doctor.subject import Clock, LossFunction, Subject
from throughtime.foreign.unchanged import evaluating
from throughtime.results.diagnosis import Cause, Estimate, Fact, Finding, Remedy
from throughtime.tasks.pairs import PairBatch
from throughtime.training.feedback import FreeRunning, MixedFeedback, ScheduledSampling

_LOST = 0.5  # of the gain over no input: the least loss of it that is a fault
_DETERMINED = 0.25  # of the loss without inputs: the most that is left where a source decides
_SHARE = 0.05  # of the budget: the most that the measurement takes
_TRIAL = 0.15  # of the budget: the most that each of two copies is trained for
_UPDATES = 300
_FIRST = 0.5  # probability of a true symbol in the first update of a copy; 0 in the last
_RECOVERED = 0.5  # of the rise: the least that training on own symbols wins back of a fault
_FEWEST = 3  # batches, for an interval that is of use

_CODE = """\
from throughtime.training import ScheduledSampling

feedback = ScheduledSampling(schedule="linear", k=0.5, slope=0.5 / updates)  # of all updates
state = model.encode(batch.source, batch.source_lengths)
losses, _ = feedback.losses(
    model, batch.inputs, batch.targets, state, step=update, random=generator
)
loss = losses.sum() / (batch.targets >= 0).sum()
"""


@final
class LossAfterOwnSymbols:
    """The loss after the model's own symbols, on held-out batches.

    A model of the library on pairs reads symbols that are drawn from its own softmax; each has the
    loss of the true target. Other models have a function of the user's.

    Arguments:
        subject: model, data and loss.
        function: the user's function of (model, batch), which returns the loss of a model that
            reads its own symbols; None for none.
        seed: seed of the draws.

    Attributes:
        facts: lines about what was measured.
        missing: evidence that would allow a verdict.
        remedies: remedies that were tried.
    """

    def __init__(self, subject: Subject, function: LossFunction | None, seed: int):
        self.subject, self.function, self.seed = subject, function, seed
        self.own = function is None and _reads_pairs(subject)
        self.taught: list[float] = []
        self.free: list[float] = []
        self.constant: float | None = None
        self.facts: list[Fact] = []
        self.missing: list[str] = []
        self.remedies: list[Remedy] = []
        if not self.own and function is None and isinstance(subject.copy(), NextSymbol):
            words = "not compared: the next symbols of a text do not follow from those before"
            self.facts.append(Fact("loss after the model's own symbols", words))

    def measure(self, trainer: Trainer | None, clock: Clock) -> None:
        """Measure both losses, and try a remedy where they are far apart.

        Arguments:
            trainer: trainer of copies; None where none are to be trained.
            clock: clock of the diagnosis.
        """
        if not self.own and self.function is None:
            return
        clock.at("reading the model's own symbols")
        model, end = self.subject.copy(), clock.spent() + _SHARE * clock.budget
        with evaluating(model):
            for batch in self.subject.held_out:
                if clock.left() == 0 or (len(self.free) >= _FEWEST and clock.spent() > end):
                    break
                self.taught.append(float(self.loss_after_true(model, batch)))
                self.free.append(float(self.loss_after_own(model, batch)))
        if self.own:
            self.constant = _loss_of_frequencies(self.subject.held_out)
        if len(self.free) < _FEWEST:
            self.missing.append("more batches or time, for the loss after the model's own symbols")
            return
        self.facts += [
            Fact("loss after the true symbols", f"{mean(self.taught):.4g}"),
            Fact("loss after the model's own symbols", f"{mean(self.free):.4g}"),
        ]
        rise = difference(self.free, self.taught)
        worth = mean(self.taught) if self.constant is None else self.constant - mean(self.taught)
        if trainer is not None and rise.low > _LOST * max(worth, 0.0):
            self._try(trainer, clock)

    def finding(self, constant: float | None, where: str) -> Finding | None:
        """Return the finding that the model depends on true symbols.

        It is a fault where half of what the model has learned is lost. It is a note where the
        source leaves the targets open (another right target costs as much as a wrong one), unless a
        copy that was trained on its own symbols has won back half of the loss.

        Arguments:
            constant: loss without inputs, where that of the targets' frequencies is not known.
            where: batches, in words.
        """
        constant = self.constant if self.constant is not None else constant
        if len(self.free) < _FEWEST or constant is None or not math.isfinite(mean(self.free)):
            return None
        taught, free = mean(self.taught), mean(self.free)
        worth, rise = constant - taught, difference(self.free, self.taught)
        if worth <= 0 or rise.low <= _LOST * worth:
            return None
        lost = Estimate(rise.value / worth, rise.low / worth, rise.high / worth, rise.n)
        statement = (
            f"The model's loss is {taught:.3g} after the true symbols and {free:.3g} after its "
            f"own; without inputs it is {constant:.3g}."
        )
        fault = taught < _DETERMINED * constant
        won_back = [
            remedy.after.value
            for remedy in self.remedies
            if remedy.helped
            and remedy.before.value - remedy.after.value
            >= _RECOVERED * (remedy.before.value - taught)
        ]
        if won_back:
            fault = True
            statement += f" A copy that was trained on its own symbols has {won_back[0]:.3g}."
        elif not fault:
            statement += (
                " The source leaves the targets open so far: other right symbols cost this, too."
            )
        return Finding(
            cause=Cause.EXPOSURE_BIAS,
            severity="fault" if fault else "note",
            certainty="measured",
            statement=statement,
            effect=lost,
            effect_name="part of the gain over no input that is lost after its own symbols",
            threshold=_LOST,
            measured_on=where,
            remedy="Train with scheduled sampling: --feedback scheduled-sampling, or "
            "tt.training.ScheduledSampling."
            if self.own
            else "Feed the model its own answers in a part of the training's steps (scheduled "
            "sampling).",
        )

    def loss_after_true(self, model: nn.Module, batch: Any) -> Tensor:
        """Return the loss after the true symbols.

        Arguments:
            model: copy of the model.
            batch: one of the subject's.
        """
        if not self.own:
            return self.subject.loss(model, batch)
        state = model.encode(batch.source, batch.source_lengths)  # pyright: ignore[reportCallIssue]
        losses, _ = model.losses(batch.inputs, batch.targets, state)  # pyright: ignore[reportCallIssue]
        return losses.sum() / (batch.targets >= 0).sum()

    def loss_after_own(self, model: nn.Module, batch: Any) -> Tensor:
        """Return the loss after the model's own symbols.

        Arguments:
            model: copy of the model.
            batch: one of the subject's.

        Raises:
            ConfigurationError: the user's function returns no scalar.
        """
        if self.function is None:
            never = FreeRunning()
            number = next((k for k, b in enumerate(self.subject.held_out) if b is batch), 0)
            random = torch.Generator().manual_seed(self.seed + number)  # the same for all copies
            return self._fed(model, batch, never, 0, random)
        value = self.function(model, batch)
        if not isinstance(value, Tensor) or value.dim() != 0:
            got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise ConfigurationError(
                "free_running(model, batch)", got=got, expected="a scalar tensor"
            )
        return value

    def _fed(
        self,
        model: nn.Module,
        batch: PairBatch,
        feedback: MixedFeedback,
        step: int,
        random: torch.Generator,
    ) -> Tensor:
        state = model.encode(batch.source, batch.source_lengths)  # pyright: ignore[reportCallIssue]
        losses, _ = feedback.losses(
            model,  # pyright: ignore[reportArgumentType]
            batch.inputs,
            batch.targets,
            state,
            step=step,
            random=random,
        )
        return losses.sum() / (batch.targets >= 0).sum()

    def _try(self, trainer: Trainer, clock: Clock) -> None:
        """Train two copies, one of which reads its own symbols, too."""
        clock.at("training copies that read their own symbols")
        taught = self._trained(trainer, clock, sampled=False)
        sampled = None if taught is None else self._trained(trainer, clock, sampled=True)
        if taught is None or sampled is None:
            self.facts.append(Fact("not tried", "scheduled sampling: the time went to others"))
            return
        helped = difference(sampled.after, taught.after).high < 0
        self.remedies.append(
            Remedy(
                name="scheduled sampling" if self.own else "training on both losses",
                code=_CODE if self.own and helped else "",
                how="trained",
                quantity="loss after its own symbols",
                before=estimate(taught.after),
                after=estimate(sampled.after),
                updates=sampled.updates,
                helped=helped,
            )
        )

    def _trained(self, trainer: Trainer, clock: Clock, *, sampled: bool) -> Trial | None:
        seconds = min(_TRIAL * clock.budget, clock.left())
        if seconds < LEAST_SECONDS:
            return None
        model = self.subject.copy(training=True)
        schedule = ScheduledSampling(schedule="linear", k=_FIRST, slope=_FIRST / _UPDATES)
        random = torch.Generator().manual_seed(self.seed)
        steps = itertools.count()

        def loss(batch: Any) -> Tensor:
            if not model.training:
                return self.loss_after_own(model, batch)
            if not sampled:
                return self.loss_after_true(model, batch)
            if self.own:
                return self._fed(model, batch, schedule, next(steps), random)
            return (self.loss_after_true(model, batch) + self.loss_after_own(model, batch)) / 2

        def parameters() -> list[nn.Parameter]:
            return [p for p in model.parameters() if p.requires_grad]

        condition = Condition(model, loss, parameters)
        trial = trainer.train(condition, seconds=seconds, updates=_UPDATES, longest=clock.longest())
        return trial if trial.updates else None


def _reads_pairs(subject: Subject) -> bool:
    """Return True for a model of the next symbol that encodes the sources of its batches."""
    model = subject.copy()
    encodes = isinstance(model, NextSymbol) and callable(getattr(model, "encode", None))
    return encodes and all(isinstance(batch, PairBatch) for batch in subject.held_out)


def _loss_of_frequencies(batches: Sequence[PairBatch]) -> float:
    """Return the loss of the best answer that reads nothing: the entropy of the targets."""
    due = torch.cat([batch.targets[batch.targets >= 0] for batch in batches])
    p = due.bincount().double() / len(due)
    return float(torch.special.entr(p).sum())
