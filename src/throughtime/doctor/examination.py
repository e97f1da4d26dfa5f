"""The course of an examination: cheap exact checks first, training where the answer is open."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, final

from throughtime.doctor import verdict
from throughtime.doctor.context import context_losses
from throughtime.doctor.control import Control, latch_control
from throughtime.doctor.cut import check_cut, check_training_step, flow_in_double
from throughtime.doctor.intervals import difference, estimate
from throughtime.doctor.mechanism import Mechanism, measure_mechanism
from throughtime.doctor.need import ladder, measure_need
from throughtime.doctor.padding import check_padding
from throughtime.doctor.padding import lengths_of as padded_lengths
from throughtime.doctor.remedies import CHANGES, Change, as_remedy, make_arm, train_arm
from throughtime.doctor.samples import sample_axes
from throughtime.doctor.structure import check_future, check_samples, check_state
from throughtime.doctor.subject import Clock, Subject
from throughtime.doctor.trial import Trial
from throughtime.instruments.recording import record
from throughtime.instruments.sites import find_recurrent
from throughtime.reports.diagnosis import (
    Cause,
    Diagnosis,
    Fact,
    Finding,
    Picture,
    Remedy,
    Series,
)

UPDATES = 500


@final
class Examination:
    """One model, examined.

    Arguments:
        subject: model, data, loss.
        layer: name of the recurrent layer.
        clock: of the budget.
        lag: of the dependency, if it is known.
        seed: of orders and noise.
    """

    def __init__(self, subject: Subject, layer: str, clock: Clock, *, lag: int | None, seed: int):
        self.subject, self.layer, self.clock, self.seed = subject, layer, clock, seed
        self.lag = lag
        self.findings: list[Finding] = []
        self.remedies: list[Remedy] = []
        self.pictures: list[Picture] = []
        self.facts: list[Fact] = []
        self.asks: list[str] = []
        self.trial: Trial | None = None
        batches = len(subject.held_out)
        self.where = f"layer {layer!r}, {batches} held-out batch{'es' if batches > 1 else ''}"

    def run(
        self,
        *,
        training_step: Any,
        optimizer: Any,
        history: Any,
        remedies: bool,
        others: Sequence[str],
    ) -> Diagnosis:
        """Examine, try remedies, and put the diagnosis together."""
        cause = self._cause(training_step, optimizer, history)
        if remedies:
            self._try_remedies(cause)
        self._ask(training_step, history)
        if others:
            self.facts.append(Fact("other recurrent layers, not examined", ", ".join(others)))
        return self._diagnosis(cause)

    def _cause(self, training_step: Any, optimizer: Any, history: Any) -> Cause:
        subject, layer = self.subject, self.layer
        batch = subject.held_out[0]
        if len(subject.held_out) == 1:
            self.asks.append("more batches: with one held-out batch no interval can be given")
        self.losses = subject.held_out_losses(subject.copy())
        if not all(map(math.isfinite, self.losses)):
            self.findings.append(verdict.overflow_finding(self.losses, self.where))
            return Cause.EXPLODING
        flow = flow_in_double(subject, layer, batch)
        self.answered = flow.answer > 0
        structural = self._structure(flow)
        if structural is not None:
            return structural
        steps = self.answered.any(1)
        model = subject.copy()
        self.need = measure_need(
            subject, layer, steps, self.lag, self.clock, 0.35 * self.clock.budget
        )
        need = self.need
        exchanged = context_losses(subject, model, layer, self.answered, need.window, self.seed)
        self.memory = verdict.memory(need, self.losses, exchanged)
        self._describe(flow, model)
        cut = check_cut(subject, layer, flow, need.lag)
        if training_step is not None and cut is None:
            cut = check_training_step(subject, layer, training_step, optimizer, need.lag)
        if self.memory.known == "yes":
            self.findings.append(verdict.healthy_finding(self.memory, need, self.where))
            return Cause.HEALTHY
        if cut is not None and need.long is not False:
            self.findings.append(cut)
            return cut.cause
        if need.long is False and verdict.does_as_well_as_short(need, self.losses):
            self.findings.append(verdict.no_need_finding(need, self.where))
            return Cause.NO_LONG_DEPENDENCY
        return self._obstacle(history)

    def _structure(self, flow: Any) -> Cause | None:
        subject, layer = self.subject, self.layer
        axes = sample_axes([*subject.training, *subject.held_out])
        found: list[Finding | None] = []
        if axes is None:
            self.asks.append(
                "batches whose sample axis can be told (a vector of targets or lengths): whether "
                "samples influence each other could not be checked"
            )
        else:
            self.facts.append(Fact("samples a batch", f"{axes.count} ({axes.how})"))
            found.append(check_samples(subject, layer, axes))
        if not any(found):
            found.append(check_state(subject, layer))
        model = subject.copy()
        batch = subject.held_out[0]
        recording = record(model, lambda: subject.loss(model, batch), layer=layer, level=0)
        self.facts.append(
            Fact("the layer sees", f"{recording.time} steps of {recording.batch} sequences")
        )
        if not any(found):
            found.append(check_padding(recording, flow))
        if not any(found) and axes is not None:
            found.append(check_future(subject, layer, axes, self.answered.any(1)))
        real = [finding for finding in found if finding is not None]
        self.findings.extend(real)
        return real[0].cause if real else None

    def _obstacle(self, history: Any) -> Cause:
        """Why it has not learned, or that it only was not trained enough."""
        subject, need = self.subject, self.need
        lag = need.lag if need.lag is not None else need.window
        mechanism = measure_mechanism(subject, self.layer, lag)
        self.facts += [
            Fact(f"gradient at lag {lag}, relative", f"10^{mechanism.arriving.value:.1f}"),
            Fact("largest growth of the gradient", f"10^{mechanism.growth.value:.1f}"),
            Fact("dead units", f"{100 * mechanism.dead.value:.0f} %"),
            Fact("saturated activations", f"{100 * mechanism.saturated.value:.0f} %"),
        ]
        if mechanism.retention is not None:
            kept = f"{100 * mechanism.retention.value:.2g} %"
            self.facts.append(Fact(f"kept by the gates over {lag} steps", kept))
        self._draw_gradient(mechanism)
        seconds = min(0.25 * self.clock.budget, max(self.clock.left(), 1.0))
        self.trial = train_arm(
            subject,
            make_arm(subject, self.layer, None, lag),
            seconds=seconds,
            updates=UPDATES,
            seed=self.seed,
            enough=self._enough,
        )
        diverging = history is not None and any(
            not math.isfinite(value) for value in (*history.losses, *history.gradient_norms)
        )
        suspects = verdict.mechanism_findings(mechanism, None, self.where)
        first = suspects[0].cause if suspects else None
        learns = verdict.learned(need, self.trial)
        explodes = first is Cause.EXPLODING and not learns
        blasts = mechanism.growth.low > verdict.BLASTS
        if diverging or self.trial.diverged or explodes or blasts:
            self.findings.extend(suspects)
            return Cause.EXPLODING
        if learns:
            self.findings.append(verdict.undertrained_finding(self.trial, self.where))
            self.findings.extend(_as_notes(suspects))
            return Cause.UNDERTRAINED
        control: Control | None = None
        if first in (Cause.FORGETTING, Cause.VANISHING) and self.clock.left() > 0:
            control = latch_control(
                subject,
                self.layer,
                lag,
                seconds=min(0.2 * self.clock.budget, self.clock.left()),
                updates=300,
            )
            suspects = verdict.mechanism_findings(mechanism, control, self.where)
        self.findings.extend(suspects)
        faults = [finding for finding in suspects if finding.severity == "fault"]
        return faults[0].cause if faults else Cause.INCONCLUSIVE

    def _enough(self, losses: list[float]) -> bool:
        best = min(_mean(self.need.full), _mean(self.need.short))
        return self.need.learned and _mean(losses) < best + 0.1 * (_mean(self.need.constant) - best)

    def _try_remedies(self, cause: Cause) -> None:
        if cause in (Cause.HEALTHY, Cause.NO_LONG_DEPENDENCY):
            return
        subject = self.subject
        _, module = find_recurrent(subject.copy(), self.layer)
        lag = self._lag()
        changes = [c for c in CHANGES if cause in c.causes and c.fits(module)]
        ends = None
        if cause is Cause.PADDING_READ:
            changes, ends = [_AT_THE_ENDS], padded_lengths
        if not changes or self.clock.left() <= 0:
            return
        arms = len(changes) + (self.trial is None)
        seconds = self.clock.left() / arms
        if self.trial is None:
            self.trial = train_arm(
                subject,
                make_arm(subject, self.layer, None, lag),
                seconds=seconds,
                updates=UPDATES,
                seed=self.seed,
            )
        for change in changes:
            if cause is Cause.UNDERTRAINED and change.learning_rate is None:
                self.remedies.append(_trained_on(change, self.trial, lag))
                continue
            trial = train_arm(
                subject,
                make_arm(subject, self.layer, change, lag, ends),
                seconds=seconds,
                updates=max(self.trial.updates, 1),
                seed=self.seed,
                learning_rate=change.learning_rate,
            )
            self.remedies.append(as_remedy(change, self.trial, trial, lag))
        self.remedies.sort(key=lambda remedy: (not remedy.helped, remedy.after.value))

    def _lag(self) -> int:
        if self.lag is not None:
            return self.lag
        need = getattr(self, "need", None)
        if need is not None and need.lag is not None:
            return need.lag
        return max(1, len(self.answered) // 2) if hasattr(self, "answered") else 1

    def _describe(self, flow: Any, model: Any) -> None:
        need = self.need
        self.facts += [
            Fact("held-out loss of the model", f"{_mean(self.losses):.4g}"),
            Fact("of an answer without inputs", f"{_mean(need.constant):.4g}"),
            Fact(
                f"of a predictor that sees the last {need.window} inputs",
                f"{_mean(need.short):.4g}",
            ),
            Fact("of a predictor that sees all inputs", f"{_mean(need.full):.4g}"),
        ]
        if need.lag is not None:
            known = "given" if self.lag is not None else "at least; measured"
            self.facts.append(Fact("lag that the answer needs", f"{need.lag} ({known})"))
        points: dict[int, float] = {}
        needed = {need.lag} if need.lag is not None and need.lag < len(self.answered) else set()
        for older in sorted({*ladder(1, len(self.answered))[::2], *needed}):
            exchanged = context_losses(
                self.subject, model, self.layer, self.answered, older, self.seed
            )
            if exchanged is not None:
                points[older] = _mean(exchanged)
        if points:
            self.pictures.append(self._context_picture(points))

    def _context_picture(self, points: dict[int, float]) -> Picture:
        need = self.need
        series = [Series("this model", tuple(map(float, points)), tuple(points.values()))]
        if need.curve:
            curve = tuple(map(float, need.curve))
            series.append(Series("reference predictor", curve, tuple(need.curve.values())))
        return Picture(
            title="How old the inputs are that the model uses",
            caption="The loss when inputs this many steps before the answer, and older, are those "
            "of another sequence. A curve that is flat from some lag on makes no use of what is "
            "older.",
            x_label="steps before the answer",
            y_label="held-out loss",
            series=tuple(series),
            mark=None if need.lag is None else (float(need.lag), f"needed: {need.lag}"),
            level=(_mean(self.losses), "the model's loss"),
        )

    def _draw_gradient(self, mechanism: Mechanism) -> None:
        lags = tuple(float(k) for k in range(len(mechanism.by_lag)))
        self.pictures.append(
            Picture(
                title="How much of the gradient arrives",
                caption="The norm of the gradient at each step before the answer, relative to the "
                "largest of the last three.",
                x_label="steps before the answer",
                y_label="relative gradient",
                series=(Series("gradient", lags, mechanism.by_lag),),
                logarithmic=True,
                mark=(float(mechanism.lag), f"needed: {mechanism.lag}"),
                level=(10.0**verdict.VANISHES, "threshold"),
            )
        )

    def _ask(self, training_step: Any, history: Any) -> None:
        if training_step is None:
            self.asks.append(
                "training_step=: your own step of training, so that a truncation or a detach in it "
                "can be seen"
            )
        if history is None:
            self.asks.append("history=: your losses and gradient norms, so that spikes can be seen")
        if self.lag is None and getattr(self, "need", None) is not None and self.need.lag is None:
            self.asks.append("lag=: how many steps back the answer depends on its inputs")

    def _diagnosis(self, cause: Cause) -> Diagnosis:
        order = {cause: 0}
        self.findings.sort(key=lambda finding: order.get(finding.cause, 1))
        model = self.subject.copy()
        _, module = find_recurrent(model, self.layer)
        return Diagnosis(
            verdict=cause,
            sentence=self._sentence(cause),
            findings=tuple(self.findings),
            remedies=tuple(self.remedies),
            pictures=tuple(self.pictures),
            facts=tuple(self.facts),
            asks=tuple(self.asks),
            seconds=self.clock.spent(),
            budget=self.clock.budget,
            model=f"{type(model).__name__} with {self.layer or 'itself'}: {module}",
        )

    def _sentence(self, cause: Cause) -> str:
        if self.findings and self.findings[0].cause is cause:
            return self.findings[0].statement
        if cause is Cause.EXPLODING:
            return "Training diverges: losses or gradients are no longer finite."
        return (
            "The model does not use old inputs, and none of the known causes is clear of its "
            "threshold."
        )


_AT_THE_ENDS = Change(
    "the answer read at each sequence's last valid step",
    "output[lengths - 1, torch.arange(len(lengths))]  # or h_n of a packed batch",
    (Cause.PADDING_READ,),
)


def _trained_on(change: Change, trial: Trial, lag: int) -> Remedy:
    return Remedy(
        name=change.name,
        code=change.code.replace("{lag}", str(lag)),
        how="trained",
        quantity="held-out loss",
        before=estimate(trial.before),
        after=estimate(trial.after),
        updates=trial.updates,
        helped=difference(trial.after, trial.before).high < 0,
    )


def _as_notes(findings: list[Finding]) -> list[Finding]:
    return [dataclasses.replace(f, severity="note", certainty="suspected") for f in findings]


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
