"""Checks of the whole model: its own symbols, its attention, its memory, its latent variables."""

from collections.abc import Callable, Sequence
from typing import final

from throughtime.core.errors import ThroughtimeError
from throughtime.doctor.free_running import LossAfterOwnSymbols
from throughtime.doctor.intervals import mean
from throughtime.doctor.need import Need
from throughtime.doctor.remedies import Trainer
from throughtime.doctor.subject import Clock, LossFunction, Subject
from throughtime.doctor.unused_attention import UnusedAttention
from throughtime.doctor.unused_latent import LatentUse
from throughtime.doctor.unused_memory import UnusedMemory
from throughtime.results.diagnosis import Cause, Fact, Finding, Remedy


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
        self.memory = UnusedMemory(subject)
        self.latent = LatentUse(subject, seed)
        self._run(self.free_running.facts, lambda: self.free_running.measure(trainer, clock))
        self._run(self.attention.facts, lambda: self.attention.measure(clock))
        self._run(self.memory.facts, lambda: self.memory.measure(trainer, clock))
        self._run(self.latent.facts, lambda: self.latent.measure(trainer, clock))

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
        memory = self.memory.finding(needs, where)
        found = (free, unused, memory, self.latent.finding(where))
        return [finding for finding in found if finding is not None]

    def remedies_of(self, cause: Cause) -> list[Remedy]:
        """Return the remedies that were tried for a cause.

        Arguments:
            cause: cause of a finding of these checks.
        """
        tried = {
            Cause.EXPOSURE_BIAS: self.free_running.remedies,
            Cause.MEMORY_UNUSED: self.memory.remedies,
            Cause.POSTERIOR_COLLAPSE: self.latent.remedies,
        }
        return tried.get(cause, [])
