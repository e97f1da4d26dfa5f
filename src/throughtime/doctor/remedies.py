"""Trials of changes: copies with and without a change, trained alike and compared."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, final

import torch
from torch import Tensor, nn

from throughtime.doctor.brief_training import (
    USUAL,
    Training,
    Trial,
    Update,
    by_gradient,
    train_briefly,
)
from throughtime.doctor.changes import CHANGES, Change, Substitute, Where
from throughtime.doctor.intervals import difference, estimate
from throughtime.doctor.mechanism import Mechanism, measure_mechanism
from throughtime.doctor.subject import Clock, Subject, redraw
from throughtime.doctor.user_training import OptimizerOf, TrainingStep, optimizer_for
from throughtime.doctor.written_code import written
from throughtime.foreign.sites import find_recurrent, run_by, site_of
from throughtime.foreign.unchanged import evaluating
from throughtime.results.diagnosis import Cause, Estimate, Remedy

LEAST_SECONDS = 0.3  # of training, below which a change is only measured
_NO_TIME = "the time went to others"
_MOST = 4  # changes that are trained, the likeliest first


@dataclasses.dataclass(frozen=True)
class Condition:
    """A copy of the model with a change, to be trained.

    Attributes:
        model: the copy.
        loss: function from a batch to the loss of the copy.
        parameters: function that returns the trained parameters; known after a first loss.
    """

    model: nn.Module
    loss: Callable[[Any], Tensor]
    parameters: Callable[[], list[nn.Parameter]]


def make_condition(
    subject: Subject, layer: str, change: Change | None, lag: int, *, fresh: int | None = None
) -> Condition:
    """Return a changed copy of the model.

    Arguments:
        change: change of the copy; None for the model as it is.
        fresh: seed with which the weights are drawn afresh; None for the given weights.
    """
    model = subject.copy(training=True)
    if fresh is not None:
        redraw(model, fresh)
    _, module = find_recurrent(model, layer)
    substitute: Substitute | None = None
    if change is not None:
        if change.apply is not None:
            with torch.no_grad():
                change.apply(module, lag)
        substitute = None if change.substitute is None else change.substitute(lag)
    site = None if substitute is None else site_of(module)

    def loss(batch: Any) -> Tensor:
        if substitute is None:
            return subject.loss(model, batch)
        with run_by(module, substitute.run, site):
            return subject.loss(model, batch)

    def parameters() -> list[nn.Parameter]:
        more = [] if substitute is None else substitute.parameters()
        return [*(p for p in model.parameters() if p.requires_grad), *more]

    return Condition(model, loss, parameters)


@final
class Trainer:
    """Trains conditions alike."""

    def __init__(
        self,
        subject: Subject,
        seed: int,
        step: TrainingStep | None = None,
        optimizer: OptimizerOf | None = None,
    ):
        self.subject, self.seed, self.step, self.optimizer = subject, seed, step, optimizer

    def train(
        self,
        condition: Condition,
        *,
        seconds: float,
        updates: int,
        training: Training = USUAL,
        enough: Callable[[list[float]], bool] | None = None,
        longest: float = math.inf,
    ) -> Trial:
        """Train a condition briefly: at least a quarter of the updates, within the longest time."""

        def evaluate() -> list[float]:
            with evaluating(condition.model):
                return [float(condition.loss(batch)) for batch in self.subject.held_out]

        return train_briefly(
            lambda: self.update(condition, training),
            evaluate,
            self.subject.training,
            seconds=seconds,
            most_updates=updates,
            seed=self.seed,
            enough=enough,
            least_updates=updates // 4,
            longest=longest,
        )

    def update(self, condition: Condition, training: Training) -> Update:
        """Return the function that makes updates of a condition."""
        if training.own == "nothing":
            optimizer = torch.optim.Adam(condition.parameters(), lr=training.learning_rate)
            return by_gradient(condition.loss, optimizer, training.clip_norm)
        optimizer = optimizer_for(condition.model, self.optimizer)
        if training.own == "optimizer":
            return by_gradient(condition.loss, optimizer, training.clip_norm)
        step = self.step
        assert step is not None

        def update(batch: Any) -> float:
            return step(condition.model, optimizer, batch)

        return update


def changes_for(cause: Cause, module: nn.Module, place: Where) -> list[Change]:
    """List the changes that may help against a cause, the likeliest first."""
    places = (place,) if place == "dropped" else ("anywhere", place)
    return [
        change
        for change in CHANGES
        if cause in change.causes and change.where in places and change.fits(module)
    ]


def try_changes(
    trainer: Trainer,
    layer: str,
    changes: list[Change],
    lag: int,
    clock: Clock,
    updates: int,
    done: dict[Training, Trial],
) -> tuple[list[Remedy], list[str]]:
    """Train copies with changes, and the copies to compare them with, in the time that is left.

    Arguments:
        changes: changes to try, the likeliest first.
        done: trials of the model as it is, by training. Missing ones are made and added.

    Returns:
        Remedies, the most helpful first; and the changes that were not tried, with the reason.
    """
    tried, untried = changes[:_MOST], changes[_MOST:]
    if _share(tried, done, clock) < LEAST_SECONDS:
        return _measured(trainer.subject, layer, changes, lag, clock)
    remedies: list[Remedy] = []
    refused: list[str] = []
    for number, change in enumerate(tried):
        clock.at(f"training a copy with {_named(change, lag)}")
        seconds = _share(tried[number:], done, clock)
        if remedies and seconds < LEAST_SECONDS:
            untried = changes[number:]
            break
        if change.beside is not None and change.beside not in done:
            try:
                done[change.beside] = trainer.train(
                    make_condition(trainer.subject, layer, None, lag),
                    seconds=seconds,
                    updates=updates,
                    training=change.beside,
                    longest=clock.longest() / 2,
                )
            except Exception as error:  # noqa: BLE001 what the model raises in training
                words = f"{type(error).__name__} in the training of a copy as it is: {error}"
                refused.append(f"{_named(change, lag)}: {words}")
                continue
            seconds = max(_share(tried[number:], done, clock), LEAST_SECONDS)
        plain = change.apply is None and change.substitute is None
        if plain and change.training in done:
            trial = done[change.training]
        else:
            try:
                beside = None if change.beside is None else done[change.beside]
                trial = trainer.train(
                    make_condition(trainer.subject, layer, change, lag),
                    seconds=seconds,
                    updates=updates if beside is None else max(1, min(updates, beside.updates)),
                    training=change.training,
                    longest=clock.longest(),
                )
            except Exception as error:  # noqa: BLE001 what the model raises with the change
                refused.append(f"{_named(change, lag)}: {type(error).__name__}: {error}")
                continue
            if trial.updates == 0 and not trial.diverged:
                refused.append(f"{_named(change, lag)}: {_NO_TIME}")
                continue
            if plain:
                done[change.training] = trial
        before = trial.before if change.beside is None else done[change.beside].after
        remedies.append(_trained(change, before, trial, trainer.subject, layer, lag))
    remedies.sort(key=lambda remedy: (not remedy.helped, remedy.after.value))
    refused += [f"{_named(change, lag)}: {_NO_TIME}" for change in untried]
    return remedies, refused


def _share(tried: list[Change], done: dict[Training, Trial], clock: Clock) -> float:
    """Return the seconds for the next condition. Earlier ones get more: 4 : 3 : 2 : 1."""
    missing = {c.beside for c in tried if c.beside is not None} - set(done)
    return 2 * clock.left() / (1 + max(1, len(tried) + len(missing)))


def _named(change: Change, lag: int) -> str:
    return change.name.replace("{lag}", str(lag))


def _trained(
    change: Change, before: list[float], trial: Trial, subject: Subject, layer: str, lag: int
) -> Remedy:
    helped = difference(trial.after, before).high < 0
    return Remedy(
        name=_named(change, lag),
        code=written(change.code, subject, layer, lag) if helped else "",
        how="trained",
        quantity="validation loss",
        before=estimate(before),
        after=estimate(trial.after),
        updates=trial.updates,
        helped=helped,
    )


def _measured(
    subject: Subject, layer: str, changes: list[Change], lag: int, clock: Clock
) -> tuple[list[Remedy], list[str]]:
    """Measure the gradient at the lag for changes of initial weights, without training.

    Returns:
        Remedies, and the changes that were not measured.
    """
    before: Mechanism | None = None
    remedies: list[Remedy] = []
    untried: list[str] = []
    for change in changes:
        apply = change.apply
        if apply is None or change.causes == (Cause.TIME_BATCH_SWAPPED,):
            continue
        if clock.longest() == 0:
            untried.append(f"{_named(change, lag)}: {_NO_TIME}")
            continue
        if before is None:
            before = measure_mechanism(subject, layer, lag, clock.longest() / 4)

        def alter(model: nn.Module, apply: Callable[[nn.Module, int], None] = apply) -> None:
            with torch.no_grad():
                apply(find_recurrent(model, layer)[1], lag)

        after = measure_mechanism(subject.altered(alter), layer, lag, clock.longest() / 4)
        remedies.append(
            Remedy(
                name=_named(change, lag),
                code="",
                how="instruments",
                quantity=f"gradient at lag {lag}, relative to that near the answer",
                before=_raised(before.arriving),
                after=_raised(after.arriving),
                updates=0,
                helped=False,  # a gradient that arrives is not yet an answer that is learned
            )
        )
    return remedies, untried


def _raised(logarithm: Estimate) -> Estimate:
    """Return the estimate of a number from that of its logarithm to base 10."""
    value, low, high = (10.0**end for end in (logarithm.value, logarithm.low, logarithm.high))
    return Estimate(value, low, high, logarithm.n)
