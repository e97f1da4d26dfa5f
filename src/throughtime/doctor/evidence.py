"""Evidence of an examination: findings, remedies, pictures and facts, as they are collected."""

import dataclasses
from typing import final

from jaxtyping import Bool
from torch import Tensor, nn

from throughtime.doctor import verdict
from throughtime.doctor.conclusion import advised, leading
from throughtime.doctor.intervals import mean
from throughtime.doctor.mechanism import Mechanism, context_losses
from throughtime.doctor.need import Need, ladder
from throughtime.doctor.options import Options
from throughtime.doctor.subject import Clock, Subject
from throughtime.reports.curves import gate_saturation, time_constants
from throughtime.reports.numbers import in_percent, times
from throughtime.results.diagnosis import Cause, Diagnosis, Fact, Finding, Picture, Remedy, Series

_DRAWING = 0.05  # of the budget: the most that a picture takes


@final
@dataclasses.dataclass
class Evidence:
    """The parts of a diagnosis, filled in by an examination.

    Attributes:
        model: class of the model, and the layer that is examined.
        findings, remedies, pictures, facts: parts of the diagnosis.
        missing: entries of the diagnosis's `missing_evidence`.
    """

    model: str
    findings: list[Finding] = dataclasses.field(default_factory=list)
    remedies: list[Remedy] = dataclasses.field(default_factory=list)
    pictures: list[Picture] = dataclasses.field(default_factory=list)
    facts: list[Fact] = dataclasses.field(default_factory=list)
    missing: list[str] = dataclasses.field(default_factory=list)

    def note(self, name: str, value: str) -> None:
        """Add a line to the details."""
        self.facts.append(Fact(name, value))

    def add_need(self, need: Need, losses: list[float], lag: str) -> None:
        """Add the losses of the reference predictors, beside the model's; and the lag in words."""
        self.note("held-out loss of the model", f"{mean(losses):.4g}")
        self.note("of an answer without inputs", f"{mean(need.constant):.4g}")
        self.note(f"of a predictor of the last {need.window} inputs", f"{mean(need.short):.4g}")
        self.note("of a predictor of all inputs", f"{mean(need.full):.4g}")
        if lag:
            self.note("lag that the answer needs", lag)

    def add_mechanism(self, mechanism: Mechanism, lag: int | None) -> None:
        """Add the measurements of the layer's state and gradient, at the lag where it is known."""
        if lag is not None:
            self.note(f"gradient at lag {lag}, relative", in_percent(10**mechanism.arriving.value))
        self.note("largest growth of the gradient", f"{times(10**mechanism.growth.value)} times")
        self.note("dead units", in_percent(mechanism.dead.value))
        self.note("saturated activations", in_percent(mechanism.saturated.value))
        if mechanism.retention is not None and lag is not None:
            self.note(f"kept by the gates over {lag} steps", in_percent(mechanism.retention.value))
        self.pictures.append(gradient_picture(mechanism, lag))
        if mechanism.activity.time_constants is not None:
            self.pictures.append(time_constants(mechanism.activity, lag))
        if mechanism.activity.gates is not None:
            self.pictures.append(gate_saturation(mechanism.activity))

    def draw_context(
        self,
        subject: Subject,
        layer: str,
        model: nn.Module,
        answered: Bool[Tensor, "time batch"],
        need: Need,
        losses: list[float],
        clock: Clock,
    ) -> None:
        """Add the picture of the loss by the age of inputs that are another sequence's."""
        points: dict[int, float] = {}
        needed = [need.lag] if need.lag is not None and need.lag < len(answered) else []
        rungs = ladder(1, len(answered))[::2]
        end = clock.spent() + _DRAWING * clock.budget
        for older in dict.fromkeys([*needed, *rungs[::2], *rungs[1::2]]):  # coarsely first
            if clock.longest() == 0 or (points and clock.spent() > end):
                break
            left = end - clock.spent()
            exchanged = context_losses(subject, model, layer, answered, older, 0, left)
            if exchanged is not None:
                # a rise on some batches, added to the loss on all
                rise = mean(exchanged) - mean(losses[: len(exchanged)])
                points[older] = mean(losses) + rise
        if points:
            self.pictures.append(context_picture(points, need, losses))

    def has(self, cause: Cause) -> bool:
        """Return whether there is a finding of a cause."""
        return any(finding.cause is cause for finding in self.findings)

    def note_missing(self, batches: int, options: Options, *, lag_open: bool) -> None:
        """Add the arguments that would allow a more certain verdict.

        Arguments:
            batches: number of held-out batches.
            options: arguments of the diagnosis.
            lag_open: If True, no lag is known.
        """
        if batches == 1:
            self.missing.append("more batches: with one held-out batch no interval can be given")
        if options.training_step is None:
            self.missing.append(
                "training_step=: your own step of training, to check it for truncation and detach()"
            )
        if options.history is None:
            self.missing.append(
                "history=: your losses and gradient norms, to check them for spikes"
            )
        if lag_open:
            self.missing.append(
                "lag=: the number of steps between an answer and the inputs that it depends on"
            )

    def diagnosis(self, cause: Cause, clock: Clock) -> Diagnosis:
        """Return the diagnosis with a verdict, whose findings come first."""
        findings = sorted(self.findings, key=lambda finding: finding.cause is not cause)
        findings = [advised(finding, self.remedies) for finding in findings]
        if findings and findings[0].cause is cause:
            sentence = findings[0].statement
        elif cause is Cause.EXPLODING:
            sentence = "Training diverges: losses or gradients are no longer finite."
        else:
            sentence = (
                "The model does not use old inputs, and none of the known causes is clear of its "
                "threshold."
            )
        return Diagnosis(
            verdict=cause,
            sentence=leading(cause, sentence, self.remedies),
            findings=tuple(findings),
            remedies=tuple(self.remedies),
            pictures=tuple(self.pictures),
            facts=tuple(self.facts),
            missing_evidence=tuple(self.missing),
            seconds=clock.spent(),
            budget=clock.budget,
            model=self.model,
        )


def context_picture(points: dict[int, float], need: Need, losses: list[float]) -> Picture:
    """Draw the loss over the age from which on inputs are another sequence's."""
    points = dict(sorted(points.items()))
    series = [Series("this model", tuple(map(float, points)), tuple(points.values()))]
    if need.curve:
        curve = tuple(map(float, need.curve))
        series.append(Series("reference predictor", curve, tuple(need.curve.values())))
    return Picture(
        title="How old the inputs are that the model uses",
        caption="The loss when inputs this many steps before the answer, and older, are those of "
        "another sequence. A curve that is flat from some lag on makes no use of what is older.",
        x_label="steps before the answer",
        y_label="held-out loss",
        series=tuple(series),
        mark=None if need.lag is None else (float(need.lag), f"needed: {need.lag}"),
        level=(mean(losses), "the model's loss"),
    )


def gradient_picture(mechanism: Mechanism, lag: int | None) -> Picture:
    """Draw the gradient over the lag."""
    lags = tuple(float(k) for k in range(len(mechanism.by_lag)))
    return Picture(
        title="How much of the gradient arrives",
        caption="The norm of the gradient at each step before the answer, relative to the largest "
        "of the last three.",
        x_label="steps before the answer",
        y_label="relative gradient",
        series=(Series("gradient", lags, mechanism.by_lag),),
        logarithmic=True,
        mark=None if lag is None else (float(lag), f"needed: {lag}"),
        level=(10.0**verdict.VANISHES, "threshold"),
    )
