"""Checks of the whole model beside those of its layers: its own symbols, its attention."""

from collections.abc import Callable, Sequence
from typing import final

from throughtime.core.errors import ThroughtimeError
from throughtime.doctor.free_running import LossAfterOwnSymbols
from throughtime.doctor.intervals import mean
from throughtime.doctor.need import Need
from throughtime.doctor.remedies import Trainer
from throughtime.doctor.subject import Clock, LossFunction, Subject
from throughtime.doctor.unused_attention import UnusedAttention
from throughtime.results.diagnosis import Fact, Finding


@final
class WholeModel:
    """The checks, which are run at once; their findings need the losses of the predictors.

    Arguments:
        subject: model, data and loss.
        free_running: the user's function of the loss after the model's own answers; or None.
        trainer: trainer of copies; None where none are to be trained.
        clock: clock of the diagnosis.
        seed: seed of draws.
    """

    def __init__(
        self,
        subject: Subject,
        free_running: LossFunction | None,
        trainer: Trainer | None,
        clock: Clock,
        seed: int,
    ):
        self.subject = subject
        self.free_running = LossAfterOwnSymbols(subject, free_running, seed)
        self.attention = UnusedAttention(subject)
        self._run(self.free_running.facts, lambda: self.free_running.measure(trainer, clock))
        self._run(self.attention.facts, lambda: self.attention.measure(clock))

    def _run(self, facts: list[Fact], check: Callable[[], None]) -> None:
        try:
            check()
        except ThroughtimeError:
            raise
        except Exception as error:  # noqa: BLE001 what the model raises in an experiment
            facts.append(Fact("an experiment", f"{type(error).__name__}: {error}"))

    def findings(self, needs: Sequence[Need]) -> list[Finding]:
        """Return what was found.

        Arguments:
            needs: losses of the reference predictors, by layer; none where they were not trained.
        """
        constant = max([mean(need.constant) for need in needs], default=None)
        count = len(self.subject.held_out)
        where = f"the whole model, {count} held-out batch{'es' if count > 1 else ''}"
        free = self.free_running.finding(constant, where)
        unused = self.attention.finding(needs, where)
        return [finding for finding in (free, unused) if finding is not None]
