"""The lag that the answer needs, as far as it is known: given, found in the data, or measured."""

import dataclasses
from collections.abc import Sequence
from typing import final

from torch import Tensor

from throughtime.core.errors import ConfigurationError
from throughtime.doctor import dependence_findings
from throughtime.doctor.brief_training import Trial
from throughtime.doctor.data_pairs import dependence_of
from throughtime.doctor.dependence import Dependence, in_words
from throughtime.doctor.fresh_copies import FreshCopies
from throughtime.doctor.intervals import mean
from throughtime.doctor.later_inputs import check_later
from throughtime.doctor.mechanism import Mechanism
from throughtime.doctor.need import Need
from throughtime.doctor.sample_axes import SampleAxes
from throughtime.doctor.subject import Subject
from throughtime.doctor.two_sequences import dependence_of_pairs
from throughtime.foreign.sites import find_recurrent, site_of
from throughtime.results.diagnosis import Cause, Finding

_KEPT = 0.1  # over the lag by the gates: below it a layer that does not learn forgets
_NOTHING = -6.0  # log10 of a gradient that is lost in the rounding of others
_LONG = 200  # updates of brief training after which a copy as it is would have learned


@final
class KnownLag:
    """The lag, and the dependence of targets on inputs by lag.

    Arguments:
        subject: model, data and loss.
        layer: name of the recurrent layer.
        given: lag that the user gives; None for none.
        seed: seed of the permutations.

    Attributes:
        value: the lag; None as long as it is not known.
        words: the lag and its origin in words; "" where it is not known.
        dependence: dependence of targets on inputs by lag; None where it cannot be told.
    """

    def __init__(self, subject: Subject, layer: str, given: int | None, seed: int):
        self.subject, self.layer, self.given, self.seed = subject, layer, given, seed
        self.value = given
        self.words = "" if given is None else f"lag {given}, given"
        self.dependence: Dependence | None = None
        self._answered: Tensor | None = None
        self._axes: SampleAxes | None = None

    @property
    def strongest(self) -> str:
        """The strongest dependence in words; "" where none can be told."""
        if self.dependence is None:
            return ""
        part = self.dependence.strongest
        return "none found" if part is None else in_words(part)

    def search(self, answered: Tensor, axes: SampleAxes | None, *, separate: bool) -> None:
        """Find the dependence by lag, before anything is trained.

        Arguments:
            answered: (time, batch) True at the steps of the first held-out batch that the loss
                reads, at least one.
            axes: sample axes of the batch.
            separate: If True, the layer runs several times, each from a fresh state: what is not
                found by lag may be a matter of two sequences together.
        """
        self._answered, self._axes = answered, axes
        # of two directions one has seen all inputs wherever the answer is read
        found = self._dependence(to_the_end=not self._one_way())
        if found is None or (separate and not found.found):
            found = dependence_of_pairs(self.subject, self.layer, axes, self.seed)
            found = None if found is not None and found.found else found  # of no known lag
        self.dependence = found

    def for_predictors(self) -> int | None:
        """Return the lag that was given, or else that of the data, if it is not a short one."""
        lag = None if self.dependence is None else self.dependence.lag
        if self.given is not None or lag is None or self._answered is None:
            return self.given
        return lag if lag > max(1, len(self._answered) // 8) else None

    def settle(self, need: Need) -> None:
        """Take the lag that was given, or found in the data, or else measured by predictors."""
        oldest = None if self.dependence is None else self.dependence.oldest
        if self.given is not None:
            return
        if need.lag is not None:
            self.value, self.words = need.lag, f"lag {need.lag} or more, by the predictors"
        if oldest is not None and need.lag in (None, oldest.start):
            self.value, self.words = oldest.start or None, in_words(oldest)

    def unpredicted(self, need: Need) -> bool:
        """Return whether neither the data nor a predictor show a dependence, nor a lag is given."""
        if self.dependence is None or self.given is not None:
            return False
        return not self.dependence.found and not need.learned

    def with_need(self, need: Need, losses: Sequence[float]) -> Need:
        """Return the need of old inputs, from the data where the predictors leave it open.

        If a model is better than the short predictor, and the data show a dependence beyond its
        window, old inputs are worth something.

        Arguments:
            need: need by the predictors.
            losses: held-out losses of the model.
        """
        lag = None if self.dependence is None else self.dependence.lag
        gain = mean(need.short) - mean(losses)
        if need.long is not None or lag is None or lag < need.window:
            return need
        if gain < 0.1 * abs(mean(need.constant)):
            return need
        return dataclasses.replace(need, long=True, lag=self.value)

    def about(self, suspects: Sequence[Finding], need: Need | None) -> list[Finding]:
        """Return obstacles; those over a lag only if it is known, with its origin in the words.

        Arguments:
            suspects: findings of the mechanism.
            need: need of old inputs.
        """
        over = (Cause.FORGETTING, Cause.VANISHING)
        if self.value is None or need is None or self.unpredicted(need):
            return [finding for finding in suspects if finding.cause not in over]
        if self.given is not None:
            return list(suspects)
        origin = f" {self.words[0].upper()}{self.words[1:]}."
        return [
            dataclasses.replace(finding, statement=finding.statement + origin)
            if finding.cause in over
            else finding
            for finding in suspects
        ]

    def memory_cause(self, mechanism: Mechanism | None, need: Need | None) -> Cause | None:
        """Return the fault of memory that remedies could show; None where no lag is known.

        Arguments:
            mechanism: measurements of the layer.
            need: need of old inputs.
        """
        if mechanism is None or need is None or need.long is False:
            return None
        if self.value is None or self.unpredicted(need):
            return None
        retention = mechanism.retention
        forgets = retention is not None and retention.value < _KEPT
        return Cause.FORGETTING if forgets else Cause.VANISHING

    def vanishes(
        self, suspected: Finding, mechanism: Mechanism, need: Need, trial: Trial | None
    ) -> bool:
        """Return whether a vanishing gradient is the likeliest cause, although none was confirmed.

        It is if the data and the predictors show the need, next to nothing of the gradient arrives,
        and long training of a copy as it is did not help.

        Arguments:
            suspected: suspected cause.
            mechanism: measurements of the layer.
            need: need of old inputs.
            trial: trial of a copy as it is.
        """
        shown = self.given is not None or (self.dependence is not None and self.dependence.found)
        return (
            suspected.cause is Cause.VANISHING
            and shown
            and need.long is True
            and mechanism.arriving.high < _NOTHING
            and trial is not None
            and trial.updates >= _LONG
        )

    def misread(
        self, copies: FreshCopies | None, losses: Sequence[float], where: str
    ) -> Finding | None:
        """Return a finding if the targets depend on inputs after the step of the answer.

        Arguments:
            copies: trials of fresh copies; None where none are to be trained.
            losses: held-out losses of the model.
            where: layer and batches.
        """
        if self._answered is None or not self._one_way():
            return None
        answered, seen = self._answered, self.dependence
        last, time = int(answered.any(1).nonzero().max()), len(answered)
        if last < time - 1 and seen is not None and not seen.found:
            later = self._dependence(to_the_end=True)
            if later is not None and later.strongest is not None:
                return dependence_findings.wrong_step_finding(last, later.strongest, time, where)
        if copies is None:
            return None
        return check_later(copies, answered, self._axes, seen, losses, where)

    def _dependence(self, *, to_the_end: bool) -> Dependence | None:
        assert self._answered is not None
        return dependence_of(
            self.subject,
            self.layer,
            self._answered,
            self._axes,
            self.seed,
            to_the_end=to_the_end,
        )

    def _one_way(self) -> bool:
        return site_of(find_recurrent(self.subject.copy(), self.layer)[1]).directions == 1


def check_lag(lag: int | None, time: int) -> None:
    """Check that the layer has a step so far before its last.

    Raises:
        ConfigurationError: it has not.
    """
    if lag is not None and lag >= time:
        raise ConfigurationError(
            "lag",
            got=f"{lag} steps, and sequences of {time}",
            expected=f"less than {time}: the layer has no step {lag} before its last",
            fix="Pass longer sequences, or the lag that they hold.",
        )
