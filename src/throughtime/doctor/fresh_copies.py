"""Trials on equal fresh copies of a model, which have seen none of the batches."""

from collections.abc import Callable, Sequence
from typing import final

from torch import nn

from throughtime.doctor.answers import ALL_BUT, SOLVED, solved
from throughtime.doctor.brief_training import USUAL, Training, Trial
from throughtime.doctor.intervals import difference, estimate, mean
from throughtime.doctor.need import Need
from throughtime.doctor.remedies import LEAST_SECONDS, Condition, Trainer, make_condition
from throughtime.doctor.subject import Clock
from throughtime.results.diagnosis import Remedy

UPDATES = 500
_SHARE = 0.2  # of the budget: the most that one copy takes
_GOOD = 0.5  # of the loss without input: the least gain of a good model
_AS_MUCH = 0.8  # of a fresh copy's gain: the least gain of a model that is as good
_LEARNED = 0.1  # of the loss without input: the least gain of a copy that learns


@final
class FreshCopies:
    """Trains copies whose weights are drawn afresh, all alike, with and without a change.

    Arguments:
        trainer: trainer of copies, with the user's own step and optimiser.
        layer: name of the recurrent layer.
        need: losses of the reference predictors.
        clock: clock of the diagnosis.
        enough: function from held-out losses to True if training may end there.

    Attributes:
        remedies: changes that made a copy learn.
        refused: changes that were not tried, with the reason.
        model: copy that `plain` trained; None before.
    """

    def __init__(
        self,
        trainer: Trainer,
        layer: str,
        need: Need,
        clock: Clock,
        enough: Callable[[list[float]], bool] | None = None,
    ):
        self.trainer, self.layer, self.need = trainer, layer, need
        self.clock, self.enough = clock, enough
        self.remedies: list[Remedy] = []
        self.refused: list[str] = []
        self.model: nn.Module | None = None
        self._plain: Trial | None = None

    def plain(self) -> Trial | None:
        """Train one as it is by the doctor's own training, once; None where no time is left."""
        if self._plain is None:

            def keep(condition: Condition) -> Condition:
                self.model = condition.model
                return condition

            self._plain = self.train("as it is", keep)
        return self._plain

    def train(
        self,
        name: str,
        change: Callable[[Condition], Condition] | None = None,
        *,
        trainer: Trainer | None = None,
        training: Training = USUAL,
        updates: int | None = None,
        given: bool = False,
    ) -> Trial | None:
        """Train one.

        Arguments:
            name: the change in words.
            change: function that changes a condition.
            trainer: another trainer, with another optimiser.
            training: training of the copy.
            updates: number of updates, whatever is learned before; None for as many as are enough.
            given: If True, it starts from the given weights.

        Returns:
            The trial; None where no time is left, or where the changed model raises.
        """
        trainer = self.trainer if trainer is None else trainer
        if self.clock.left() < LEAST_SECONDS:
            self.refused.append(f"{name}: the time went to others")
            return None
        self.clock.at(f"training a {'' if given else 'fresh '}copy: {name}")
        try:
            condition = self.condition(given=given)
            trial = trainer.train(
                condition if change is None else change(condition),
                seconds=min(_SHARE * self.clock.budget, self.clock.left() / 2),
                longest=self.clock.longest() / 2,
                updates=UPDATES if updates is None else updates,
                training=training,
                enough=self.enough if updates is None else None,
            )
        except Exception as error:  # noqa: BLE001 what the model raises with the change
            self.refused.append(f"{name}: {type(error).__name__}: {error}")
            return None
        return trial if trial.updates or trial.diverged else None

    def condition(self, *, given: bool = False) -> Condition:
        """Return one that is not trained yet, with fresh weights or the given ones."""
        trainer = self.trainer
        fresh = None if given else trainer.seed
        return make_condition(trainer.subject, self.layer, None, 1, fresh=fresh)

    def learns(self, trial: Trial) -> bool:
        """Return whether a copy is clearly better than the best answer without inputs."""
        least = _LEARNED * abs(mean(self.need.constant))
        return difference(trial.after, self.need.constant).high < 0 and self.gain(trial) > least

    def gains_little(self, losses: Sequence[float]) -> bool:
        """Return whether losses are hardly below that of the best answer without inputs."""
        constant = mean(self.need.constant)
        return constant - mean(losses) <= _LEARNED * abs(constant)

    def supports(self, trial: Trial, losses: Sequence[float]) -> bool:
        """Return whether a copy gains at least half as much as the model, clearly.

        Arguments:
            trial: trial of the copy.
            losses: held-out losses of the model.
        """
        least = 0.5 * (mean(self.need.constant) - mean(losses))
        return difference(trial.after, self.need.constant).high < 0 and self.gain(trial) >= least

    def do_no_better(self, losses: Sequence[float]) -> bool:
        """Return whether a copy learns, and the model is good and gains about as much or more.

        Arguments:
            losses: held-out losses of the model.
        """
        gain = mean(self.need.constant) - mean(losses)
        if not gain >= _GOOD * abs(mean(self.need.constant)):
            return False
        trial = self.plain()
        return trial is not None and self.learns(trial) and self.as_good(losses, trial)

    def solve(self) -> bool:
        """Return whether the model is right nearly everywhere, and predictors or a copy mostly."""
        subject, need = self.trainer.subject, self.need
        if not self.clock.left() or (solved(subject) or 0.0) <= ALL_BUT:
            return False
        if need.learned and self.gain_of(need.full) >= _GOOD * abs(mean(need.constant)):
            return True
        if self.plain() is None or self.model is None:
            return False
        return (solved(subject, self.model) or 0.0) > SOLVED

    def as_good(self, losses: Sequence[float], trial: Trial) -> bool:
        """Return whether a model gains about as much as a copy, or more.

        Arguments:
            losses: held-out losses of the model.
            trial: trial of the copy.
        """
        return self.gain_of(losses) >= _AS_MUCH * self.gain(trial)

    def gain_of(self, losses: Sequence[float]) -> float:
        """Return the gain of held-out losses over the best answer without inputs."""
        return mean(self.need.constant) - mean(losses)

    def gain(self, trial: Trial) -> float:
        """Return the gain of a trial over the best answer without inputs."""
        return self.gain_of(trial.after)

    def clearly_better(self, trial: Trial, other: Trial) -> bool:
        """Return whether a copy learns, and another gains less than half as much."""
        if not self.learns(trial) or difference(trial.after, other.after).high >= 0:
            return False
        halved = 0 <= mean(trial.after) < mean(other.after) / 2
        return halved or self.gain(other) < 0.5 * self.gain(trial)

    def add_remedy(self, name: str, code: str, before: Trial, after: Trial) -> None:
        """Add a change that made a copy learn."""
        self.remedies.append(
            Remedy(
                name=name,
                code=code,
                how="trained",
                quantity="validation loss",
                before=estimate(before.after),
                after=estimate(after.after),
                updates=after.updates,
                helped=True,
            )
        )


def in_words(losses: Sequence[float]) -> str:
    """Return the mean of losses in words."""
    return f"{mean(losses):.3g}"
