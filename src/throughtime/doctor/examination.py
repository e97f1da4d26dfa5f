"""The course of an examination: cheap exact checks first, training where the answer is open."""

import dataclasses
import math
from collections.abc import Iterator
from typing import Any, final

from throughtime.core.errors import ConfigurationError, ThroughtimeError
from throughtime.doctor import dependence_findings, verdict
from throughtime.doctor.answers import OF_PREDICTORS_TOO, uncounted, unsolved
from throughtime.doctor.brief_training import USUAL, Control, Training, Trial, latch_control
from throughtime.doctor.carried_state import graph_needed
from throughtime.doctor.changes import Where
from throughtime.doctor.data_pairs import RAISED
from throughtime.doctor.evidence import Evidence
from throughtime.doctor.exact_checks import (
    check_reached,
    check_stopped,
    no_flow_finding,
    reads_all_at_once,
)
from throughtime.doctor.features_for_time import try_other_axis
from throughtime.doctor.fresh_copies import UPDATES, FreshCopies
from throughtime.doctor.gradient_cut import check_cut, check_training_step, flow_in_double
from throughtime.doctor.history import history_findings
from throughtime.doctor.intervals import mean
from throughtime.doctor.known_lag import KnownLag, check_lag
from throughtime.doctor.leak import check_leak
from throughtime.doctor.mechanism import Mechanism, context_losses, measure_mechanism
from throughtime.doctor.need import Need, measure_need
from throughtime.doctor.options import Options
from throughtime.doctor.relearning import memorised
from throughtime.doctor.remedies import Trainer, changes_for, make_condition, try_changes
from throughtime.doctor.sample_axes import SampleAxes, sample_axes
from throughtime.doctor.sample_checks import needs_company
from throughtime.doctor.shared_faults import shared_fault
from throughtime.doctor.structure import exact_checks
from throughtime.doctor.subject import Clock, Subject
from throughtime.doctor.training_settings import check_copies, check_learning, check_training
from throughtime.doctor.training_step import check_steps
from throughtime.foreign.recording import Recording, record
from throughtime.foreign.sites import find_recurrent
from throughtime.results.diagnosis import Cause, Diagnosis, Estimate, Finding, Remedy

_RELEARNING = 0.15  # of the budget: the most that the test of memorised answers takes
_STEPS = 0.05  # of the budget: the most that calls of the user's step take
_EXCHANGE = 0.05  # of the budget: the most that the exchange of old inputs takes
_MECHANISM = 0.1  # of the budget: the most that the measurement of the mechanism takes
_GRACE_SHARE = 0.6  # of the longest time: the most that the training of the model as it is takes


@final
class Examination:
    """Examination of one recurrent layer of a model."""

    def __init__(self, subject: Subject, layer: str, clock: Clock, options: Options):
        self.subject, self.layer, self.clock, self.options = subject, layer, clock, options
        model = subject.copy()
        _, module = find_recurrent(model, layer)
        self.evidence = Evidence(f"{type(model).__name__} with {layer or 'itself'}: {module}")
        batches = len(subject.held_out)
        place = f"layer {layer!r}" if layer else "the model itself"
        self.where = f"{place}, {batches} held-out batch{'es' if batches > 1 else ''}"
        self.trainer = Trainer(subject, options.seed, options.training_step, options.optimizer)
        self.trials: dict[Training, Trial] = {}  # of the model as it is
        self.lag = options.lag if options.lag is not None else 1  # at which measurements are taken
        self.known = KnownLag(subject, layer, options.lag, options.seed)
        self.axes: SampleAxes | None = None
        self.recording: Recording | None = None  # of the bottom level
        self.separate = False  # if True, the layer runs several times, each from a fresh state
        self.mechanism: Mechanism | None = None
        self.relearned: Estimate | None = None  # share of the gain, after wrong targets
        self.place: Where = "model"  # of the fault
        self.measured: Need | None = None
        self.tried: set[Cause] = set()  # causes whose remedies were tried
        self.copies: FreshCopies | None = None
        self.own: Finding | None = None  # fault of the user's step or optimiser

    def run(self) -> Diagnosis:
        """Examine, try remedies, and put the diagnosis together."""
        try:
            cause = self._examine()
        except ThroughtimeError:
            raise
        except Exception as error:  # noqa: BLE001 what the model raises in an experiment
            self.evidence.findings.insert(0, verdict.stopped_finding(error, self.where))
            cause = Cause.INCONCLUSIVE
        return self.evidence.diagnosis(cause, self.clock)

    def _examine(self) -> Cause:
        cause = self._cause()
        if self.options.remedies and cause not in (Cause.HEALTHY, Cause.NO_LONG_DEPENDENCY):
            warnings = [f for f in self.evidence.findings if f.severity == "warning"]
            suspected = [f for f in warnings if f.cause in verdict.CONFIRMED_BY_REMEDIES]
            open_ = cause is Cause.INCONCLUSIVE and bool(suspected)
            memory = None
            if cause is Cause.INCONCLUSIVE and not open_:
                memory = self.known.memory_cause(self.mechanism, self.measured)
            self._try_remedies(suspected[0].cause if open_ else memory or cause)
            if open_:
                cause = self._confirmed(suspected[0])
            elif memory is not None:
                cause = self._carried(memory)
        if self.own is not None and cause is not self.own.cause:
            self.evidence.findings.append(dataclasses.replace(self.own, severity="warning"))
        lag_open = self.known.value is None and self.measured is not None
        self.evidence.note_missing(len(self.subject.held_out), self.options, lag_open=lag_open)
        if cause is Cause.INCONCLUSIVE and self.mechanism is not None:
            self.evidence.findings.append(self._open())
        return cause

    def _effective(self) -> list[Remedy]:
        """List the remedies with which a copy remembers, and without which it does not."""
        assert self.measured is not None
        return [r for r in self.evidence.remedies if verdict.is_effective(self.measured, r)]

    def _carried(self, cause: Cause) -> Cause:
        """Return the cause if a remedy for it makes a copy learn, else INCONCLUSIVE."""
        effective = self._effective()
        if not effective:
            return Cause.INCONCLUSIVE
        self.evidence.findings.append(
            dependence_findings.carried_finding(effective[0], cause, self.lag, self.where)
        )
        return cause

    def _open(self) -> Finding:
        """Return what is known where no cause is clear, and what would settle it."""
        assert self.measured is not None
        assert self.mechanism is not None
        known, gradient = self.known, ""
        if known.value is not None:
            gradient = verdict.gradient_words(self.mechanism)
        settles = [*self.evidence.missing]
        if self.clock.left() < 1.0:
            settles.insert(0, "a longer budget")
        return dependence_findings.open_finding(
            self.measured, self.losses, known.words, gradient, settles, self.where
        )

    def _try_remedies(self, cause: Cause) -> None:
        if cause in self.tried or (cause is Cause.GRADIENT_CUT and self.recording is None):
            return
        self.tried.add(cause)
        _, module = find_recurrent(self.subject.copy(), self.layer)
        changes = changes_for(cause, module, self.place)
        if self.known.value is None:  # what is made for a lag needs one
            changes = [c for c in changes if not c.over_lag]
        trial = self.trials.get(USUAL)
        updates = UPDATES if trial is None else max(trial.updates, 1)
        remedies, untried = try_changes(
            self.trainer, self.layer, changes, self.lag, self.clock, updates, self.trials
        )
        self.evidence.remedies += remedies
        for what in untried:
            self.evidence.note("not tried", what)

    def _confirmed(self, suspected: Finding) -> Cause:
        """Return the suspected cause if a remedy for it makes a copy learn, else INCONCLUSIVE."""
        assert self.measured is not None
        need = self.measured
        effective = self._effective()
        findings, trial = self.evidence.findings, self.trials.get(USUAL)
        assert self.mechanism is not None
        if not effective and not self.known.vanishes(suspected, self.mechanism, need, trial):
            return Cause.INCONCLUSIVE
        if effective:
            findings[findings.index(suspected)] = dataclasses.replace(
                suspected,
                severity="fault",
                certainty="measured",
                statement=f"{suspected.statement} A copy with {effective[0].name} does learn, "
                "where one as it is, trained alike, does not.",
            )
        return suspected.cause

    def _cause(self) -> Cause:
        subject, layer, options = self.subject, self.layer, self.options
        found = self.evidence.findings
        if options.history is not None:
            found.extend(history_findings(options.history))
        self.losses = subject.held_out_losses(subject.copy())
        if not all(map(math.isfinite, self.losses)):
            found.append(verdict.overflow_finding(self.losses, self.where))
            return Cause.EXPLODING
        unreached = check_reached(subject, layer)
        if unreached is not None:
            found.append(unreached)
            return unreached.cause
        model, batch = subject.copy(), subject.held_out[0]
        try:
            flow = flow_in_double(subject, layer, batch)
            self.recording = record(model, lambda: subject.loss(model, batch), layer=layer, level=0)
        except ConfigurationError as error:  # calls that cannot be put in one order of time
            found.append(no_flow_finding(error, subject, layer, self.where))
            return found[-1].cause
        answered, time = flow.answer > 0, len(flow.norm)
        if options.lag is None:
            self.lag = max(1, time // 2)  # shown nowhere
        for fault in self._structure(flow):
            found.append(fault)
            if fault.severity == "fault" and self._stands(fault, answered):
                return fault.cause
        check_lag(options.lag, time)
        self.own = check_steps(
            subject, layer, options.training_step, options.optimizer, _STEPS * self.clock.budget
        )
        fault = self.own if self.own is not None and self.own.severity == "fault" else None
        if not bool(answered.any()):
            if fault is not None:
                found.append(fault)
                return fault.cause
            cut = self._cut(flow, options.lag)  # in the code: before dead weights
            stopped = check_stopped(subject, layer) if cut is None else None
            mechanism = measure_mechanism(
                subject, layer, min(self.lag, time - 1), _MECHANISM * self.clock.budget
            )
            suspects = verdict.mechanism_findings(mechanism, None, self.where)
            unread = [*verdict.unreadable(suspects, mechanism), verdict.unread_finding(self.where)]
            first = [stopped] if stopped is not None else [*([cut] if cut else []), *unread]
            found.extend(first)
            return first[0].cause
        model = subject.copy()
        need = self._need(answered)
        assert self.copies is not None
        copies = self.copies if options.remedies else None
        misread = self.known.misread(copies, self.losses, self.where)
        if misread is not None:
            return self._by_copies(self.copies, misread)
        seconds = _EXCHANGE * self.clock.budget
        exchanged = context_losses(
            subject, model, layer, answered, need.window, options.seed, seconds
        )
        needed = self.known.with_need(need, self.losses)
        memory = verdict.memory(needed, self.losses, exchanged)
        self.evidence.add_need(need, self.losses, self.known.words)
        self.evidence.draw_context(subject, layer, model, answered, need, self.losses, self.clock)
        cut = self._cut(flow, need.lag)
        if self.known.unpredicted(need) and self._memorised(answered):
            return self._no_dependence(need, None)
        # a dropped state that keeps a model from learning is proved below
        dropped = self.place == "dropped" and memory.known != "yes"
        given = (found, self.losses, self.where, self.axes, self.recording, flow, self.lag)
        shared = options.remedies and self.clock.left() > 0
        hidden = shared_fault(self.copies, *given, dropped=dropped) if shared else None
        if hidden is not None and hidden.severity == "fault":
            return self._by_copies(self.copies, hidden)
        found.extend([] if hidden is None else [hidden])
        unknown = not need.learned and self.known.dependence is None and options.lag is None
        harmed = memory.known == "yes" and cut is not None and self._cut_harms()
        if memory.known == "yes" and not harmed and not (unknown and self._memorised(answered)):
            found.append(verdict.healthy_finding(memory, needed, self.where))
            return Cause.HEALTHY
        if cut is not None and need.long is not False:
            found.append(cut)
            # two calls may be two sequences; a copy is not trained by the user's own step
            if self.place == "step" or self._stands(cut, answered):
                return cut.cause
        short = need.long is False and verdict.does_as_well_as_short(need, self.losses)
        # weights that such updates have ruined are the predictors' start too
        if fault is not None and (not short or fault.cause is Cause.NOT_ZEROED):
            found.append(fault)
            return fault.cause
        if short:
            if reads_all_at_once(subject, layer, answered):
                found.append(verdict.pooled_finding(need, self.losses, self.where))
                return Cause.HEALTHY
            found.append(verdict.no_need_finding(need, self.where))
            return Cause.NO_LONG_DEPENDENCY
        return self._obstacle()

    def _cut_harms(self) -> bool:
        """Return whether a cut leaves the model far from the predictors, and a copy needs none."""
        assert self.measured is not None
        assert self.copies is not None
        tried = self.options.remedies and self.place == "model"
        return tried and verdict.is_far(self.measured, self.losses) and graph_needed(self.copies)

    def _memorised(self, answered: Any) -> bool:
        """Return whether the model is better than no input by what it may have memorised."""
        assert self.copies is not None
        seconds, answers = _RELEARNING * self.clock.budget, int(answered.sum())
        seed = self.options.seed
        found, self.relearned = memorised(
            self.subject, self.layer, self.axes, self.copies, self.losses, answers, seconds, seed
        )
        return found

    def _no_dependence(self, need: Need, trial: Trial | None) -> Cause:
        """Add the finding that no dependence was found; without a trial, of a better model."""
        dependence = self.known.dependence
        assert dependence is not None
        if trial is None:
            self.evidence.missing.append("unseen=: batches that the model was not trained on")
        self.evidence.findings.append(
            dependence_findings.no_dependence_finding(
                need, self.losses, trial, self.relearned, dependence.sequences, self.where
            )
        )
        return Cause.NO_DEPENDENCE

    def _cut(self, flow: Any, lag: int | None) -> Finding | None:
        """Find a cut of the gradient in the model or in the training step."""
        subject, layer, options = self.subject, self.layer, self.options
        cut = check_cut(subject, layer, flow, lag, lag or self.known.value)
        if options.training_step is not None and cut is None:
            cut = check_training_step(subject, layer, options.training_step, options.optimizer, lag)
            self.place = "model" if cut is None else "step"
        elif cut is not None and cut.cause is Cause.FORGETTING:
            self.place = "dropped"
        return cut

    def _structure(self, flow: Any) -> Iterator[Finding]:
        """Run the exact checks in order, as long as findings are taken."""
        subject, layer = self.subject, self.layer
        self.axes = axes = sample_axes([*subject.training, *subject.held_out])
        recording = self.recording
        assert recording is not None
        self.separate = recording.links.count("fresh") > 1  # several sequences in one answer
        size = f"{recording.time} steps of {recording.batch} sequences"
        self.evidence.note("input of the layer", size)
        if axes is not None:
            self.evidence.note("samples a batch", f"{axes.count} ({axes.how})")
        trainer = self.trainer if self.options.remedies else None
        for check in exact_checks(subject, layer, axes, recording, flow, trainer, self.clock):
            if self.clock.longest() == 0:
                self.evidence.missing.append("budget=: more time, for all exact checks")
                break
            try:
                finding = check()
            except RAISED as error:  # the model or the loss refuses changed data
                self.evidence.note("an experiment", f"{type(error).__name__}: {error}")
                continue
            if finding is not None:
                yield finding
        if axes is None:
            self.evidence.missing.append(
                "batches whose sample axis is clear (a vector of targets or lengths): without it, "
                "the influence of samples on each other was not checked"
            )

    def _obstacle(self) -> Cause:
        """Find the obstacle to learning, or that the model was not trained enough."""
        evidence, need, copies = self.evidence, self.measured, self.copies
        assert need is not None
        assert copies is not None
        self.clock.at("measuring gradients and units")
        self.mechanism = mechanism = measure_mechanism(
            self.subject, self.layer, self.lag, _MECHANISM * self.clock.budget
        )
        evidence.add_mechanism(mechanism, self.known.value)
        if copies.solve() or (not need.learned and copies.do_no_better(self.losses)):
            suspects = self._suspects(mechanism, None)
            evidence.findings += verdict.as_good_findings(need, self.losses, suspects, self.where)
            return Cause.HEALTHY
        fault = check_training(copies, self.where) if self.options.remedies else None
        if fault is not None:
            return self._by_copies(copies, fault)
        trial = self._trial()
        suspects = self._suspects(mechanism, None)
        first = suspects[0].cause if suspects else None
        learns = verdict.learned(need, trial)
        if self.options.remedies and learns:
            fault = check_learning(copies, self.where)
            if fault is None and not verdict.leaves_little(need, trial):
                fault = check_leak(copies, mechanism, trial, suspects, self.where)
        elif self.options.remedies:
            fault = check_copies(copies, mechanism, trial, suspects, self.where)
        for refused in copies.refused:
            evidence.note("not tried", refused)
        if fault is not None:
            return self._by_copies(copies, fault)
        explodes = first is Cause.EXPLODING and not learns
        anyway = mechanism.growth.low > verdict.EXPLODES_ANYWAY
        diverged = self.options.history is not None and self.options.history.diverged
        if diverged or trial.diverged or explodes or anyway:
            evidence.findings.extend(suspects)
            return Cause.EXPLODING
        if learns:
            found = verdict.learned_findings(need, self.losses, trial, suspects, self.where)
            evidence.findings += found
            return found[0].cause
        assert self.recording is not None
        turned = None  # on the other axis every input is near: where memory fails, that helps too
        if first not in (Cause.FORGETTING, Cause.VANISHING):
            turned = try_other_axis(self.trainer, self.layer, trial, self.recording, self.clock)
        fresh = None if turned is None else copies.plain()  # as its layer is
        if turned is not None and not (fresh is not None and copies.clearly_better(fresh, trial)):
            self.tried.add(turned.cause)  # those for its other form
            evidence.findings.append(turned)
            return turned.cause
        control: Control | None = None
        if first in (Cause.FORGETTING, Cause.VANISHING) and self.clock.left() > 0:
            self.clock.at("training the layer on the latch task")
            control = latch_control(
                self.subject,
                self.layer,
                self.lag,
                seconds=min(0.2 * self.clock.budget, self.clock.left()),
                updates=300,
            )
            suspects = self._suspects(mechanism, control)
        evidence.findings.extend(suspects)
        faults = [finding for finding in suspects if finding.severity == "fault"]
        unpredicted = self.known.unpredicted(need) and not dependence_findings.beats_no_input(
            need, self.losses
        )
        if not faults and unpredicted:
            return self._no_dependence(need, trial)
        return faults[0].cause if faults else Cause.INCONCLUSIVE

    def _by_copies(self, copies: FreshCopies, fault: Finding) -> Cause:
        self.evidence.findings.append(fault)
        self.evidence.remedies += copies.remedies
        return fault.cause

    def _suspects(self, mechanism: Mechanism, control: Control | None) -> list[Finding]:
        """List the obstacles; those over a lag only where one is known and inputs are needed."""
        suspects = verdict.mechanism_findings(mechanism, control, self.where)
        assert self.measured is not None
        suspects = self.known.about(suspects, self.measured)
        return verdict.without_floor(suspects, self.measured, self.losses)

    def _need(self, answered: Any) -> Need:
        """Train the reference predictors, once."""
        if self.measured is None:
            if bool(answered.any()):
                self.known.search(answered, self.axes, separate=self.separate)
            if self.known.strongest:
                self.evidence.note("strongest dependence on inputs", self.known.strongest)
            self.measured = measure_need(
                self.subject,
                self.layer,
                answered.any(1),
                self.known.for_predictors(),
                self.clock,
                0.35 * self.clock.budget,
            )
            self.known.settle(self.measured)
            self.lag = self.known.value or self.measured.window
            self.copies = FreshCopies(
                self.trainer, self.layer, self.measured, self.clock, self._enough
            )
        return self.measured

    def _trial(self) -> Trial:
        """Train a copy of the model as it is, once."""
        if USUAL not in self.trials:
            self.clock.at("training a copy as it is")
            condition = make_condition(self.subject, self.layer, None, self.lag)
            self.trials[USUAL] = self.trainer.train(
                condition,
                seconds=min(0.25 * self.clock.budget, max(self.clock.left(), 1.0)),
                longest=_GRACE_SHARE * self.clock.longest(),
                updates=UPDATES,
                enough=self._enough,
            )
        return self.trials[USUAL]

    def _stands(self, fault: Finding, answered: Any) -> bool:
        """Return whether a fault of structure keeps the model from learning.

        It does if a copy with fresh weights does not learn, or if a copy without the fault learns
        clearly more. If not, the finding becomes a warning, which says so.
        """
        certain = fault.certainty == "measured" or uncounted(self.subject, fault)
        if certain or fault.cause in (Cause.TARGET_SEEN, Cause.NO_DEPENDENCE):
            return True  # that it learns is the symptom, or a constant; or it is trained already
        try:
            need = self._need(answered)
        except Exception as error:  # noqa: BLE001 what the fault makes the model raise
            self.evidence.note("predictors, in training", f"{type(error).__name__}: {error}")
            return True
        assert self.copies is not None
        # the user may have trained on all batches: only a fresh copy can tell
        trial, model = self.copies.plain(), self.copies.model
        if trial is None or model is None or not verdict.learns_anyway(need, trial):
            return True
        if fault.cause is Cause.SAMPLES_MIXED and needs_company(self.subject, model):
            return True
        if fault.cause in OF_PREDICTORS_TOO and unsolved(self.subject, model):
            return True
        if self.options.remedies:
            self._try_remedies(fault.cause)
            if any(verdict.keeps_from_learning(need, r) for r in self.evidence.remedies):
                return True
        findings = self.evidence.findings
        findings[findings.index(fault)] = dataclasses.replace(
            fault,
            severity="warning",
            statement=f"{fault.statement} A copy with fresh weights learns all the same: its "
            f"held-out loss is {mean(trial.after):.3g}, without inputs {mean(need.constant):.3g}.",
        )
        return False

    def _enough(self, losses: list[float]) -> bool:
        need = self.measured
        assert need is not None
        best = min(mean(need.full), mean(need.short))
        return need.learned and mean(losses) < best + 0.1 * (mean(need.constant) - best)
