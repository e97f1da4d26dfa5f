"""Findings and a verdict from measurements. All thresholds are here; nothing is run or trained."""

import dataclasses
import math
from collections.abc import Sequence

from throughtime.doctor.brief_training import Control, Trial
from throughtime.doctor.intervals import difference, exactly, mean
from throughtime.doctor.mechanism import Mechanism
from throughtime.doctor.need import SHARE, Need
from throughtime.reports.numbers import in_percent, times
from throughtime.results.diagnosis import Cause, Estimate, Finding, Remedy

# Set on the development family of benchmarks/doctor; the published matrix is of another family.
REMEMBERS = 0.5  # of what old inputs are worth: the least that a model must have gained from them
LEARNS = 0.8  # of what can be gained over no input: a copy that gains as much is kept from little
LEARNED = 0.5  # of the loss without input: the least gain of a copy that learns in spite of a fault
EXPLODES = 1.0  # log10 of the gradient's growth on its way back, where brief training fails too
EXPLODES_ANYWAY = 3.5  # likewise, where it does not: above that of healthy rectified networks
VANISHES = -3.0  # log10 of what arrives at the lag that is needed
FORGETS = 1e-3  # kept over the lag by the units that keep longest
SHUT = 0.1  # mean of a gate that keeps: below it, the gate is closed
DEAD = 0.5  # of the units
SATURATED = 0.45  # of the activations
CONFIRMED_BY_REMEDIES = (Cause.FORGETTING, Cause.VANISHING, Cause.SATURATED, Cause.DEAD_UNITS)
"""Causes that a copy with a remedy confirms, where they are only suspected."""


@dataclasses.dataclass(frozen=True)
class Memory:
    """Use that the model makes of old inputs.

    Attributes:
        gained: gain of the model from old inputs, relative to the reference's; None if the
            reference has no such gain.
        harm: rise of the loss when inputs older than the window are exchanged; None where it was
            not measured.
        known: "yes", "no", or "unknown".
    """

    gained: Estimate | None
    harm: Estimate | None
    known: str


def memory(need: Need, losses: Sequence[float], exchanged: Sequence[float] | None) -> Memory:
    """Judge by losses whether a model remembers.

    Arguments:
        exchanged: losses of the first held-out batches, or all, with inputs older than the window
            exchanged.
    """
    harm = None if exchanged is None else difference(exchanged, losses[: len(exchanged)])
    uses = harm is not None and harm.low > 0
    better = difference(need.constant, losses)
    if need.long:
        worth = mean(need.short) - min(mean(need.full), mean(losses))
        gain = difference(need.short, losses)
        gained = Estimate(gain.value / worth, gain.low / worth, gain.high / worth, gain.n)
        if gained.value >= REMEMBERS and gained.low > 0 and (uses or harm is None):
            return Memory(gained, harm, "yes")
        return Memory(gained, harm, "no")
    gain, best = difference(need.short, losses), min(mean(need.full), mean(losses))
    least = 0.0 if need.long is None else SHARE * (mean(need.constant) - best)
    if uses and gain.low > 0 and gain.value > least:
        return Memory(None, harm, "yes")
    if need.long is None and uses and better.low > 0 and better.value > 0.1 * mean(need.constant):
        return Memory(None, harm, "yes")
    return Memory(None, harm, "unknown" if need.long is None else "no")


def does_as_well_as_short(need: Need, losses: Sequence[float]) -> bool:
    """Return whether a model is as good as a predictor of recent inputs."""
    worth = mean(need.constant) - mean(need.short)
    return mean(losses) <= mean(need.short) + 0.3 * worth


def learned(need: Need, trial: Trial) -> bool:
    """Return whether brief training made the model remember."""
    gain = difference(trial.before, trial.after)
    if gain.low <= 0:
        return False
    if need.long:
        worth = mean(need.short) - min(mean(need.full), mean(trial.after))
        return difference(need.short, trial.after).value >= REMEMBERS * worth
    if need.long is False:
        return does_as_well_as_short(need, trial.after)
    best = min((need.constant, need.short, need.full), key=mean)
    gain = difference(best, trial.after)
    return gain.low > 0 and gain.value > 0.1 * mean(need.constant)


def leaves_little(need: Need, trial: Trial) -> bool:
    """Return whether a model had learned before a trial most of what its copy learns in it."""
    gained = mean(need.constant) - mean(trial.before)
    start = mean(need.short) if need.long else mean(need.constant)
    whole = start - min(mean(need.full), mean(trial.after))
    good = gained > LEARNED * abs(mean(need.constant))
    return good and start - mean(trial.before) >= LEARNS * whole


def is_far(need: Need, losses: Sequence[float]) -> bool:
    """Return whether a model has learned clearly less than a predictor of all inputs."""
    best = mean(need.constant) - mean(need.full)
    behind = difference(losses, need.full).low > 0
    return behind and mean(need.constant) - mean(losses) < LEARNS * best


def learns_anyway(need: Need, trial: Trial) -> bool:
    """Return whether a copy as it is learns most of what can be learned, in spite of a fault."""
    gain = difference(trial.after, need.constant)
    best = min(mean(need.full), mean(need.short), mean(trial.after))
    worth = mean(need.constant) - best
    enough = worth > LEARNED * abs(mean(need.constant)) and -gain.value >= LEARNS * worth
    return gain.high < 0 and enough


def keeps_from_learning(need: Need, remedy: Remedy) -> bool:
    """Return whether a copy without a fault learns clearly more than one with it, trained alike."""
    gain = remedy.before.value - remedy.after.value
    worth = mean(need.constant) - remedy.after.value
    clear = gain > min((1 - LEARNS) * worth, 0.5 * remedy.before.value)
    return remedy.helped and remedy.how == "trained" and clear


def is_effective(need: Need, remedy: Remedy) -> bool:
    """Return whether a copy remembers with a change, and does not without it, trained alike.

    Where no reference predictor learned, a copy remembers that is clearly better than the best
    answer without inputs.
    """
    if not remedy.helped or remedy.how != "trained" or need.long is False:
        return False
    start = mean(need.short) if need.long else mean(need.constant)
    best = min(mean(need.full), remedy.after.value)
    if not need.long and start - best < 0.1 * abs(start):
        return False
    enough = start - REMEMBERS * (start - best)
    return remedy.after.value <= enough < remedy.before.value


def is_shut(mechanism: Mechanism) -> bool:
    """Return whether the gates that keep the memory are closed, at nearly all steps and units.

    Of units that are saturated at both ends, as by large weights, many are open at many steps.
    """
    m = mechanism
    if m.retention is None or m.keeping is None:
        return False
    return m.retention.high < FORGETS and m.keeping.high < SHUT


def mechanism_findings(mechanism: Mechanism, control: Control | None, where: str) -> list[Finding]:
    """List the obstacles in the layer, the most specific first."""
    m = mechanism
    found: list[Finding] = []
    if m.growth.low > EXPLODES:
        found.append(
            _finding(
                Cause.EXPLODING,
                f"The gradient grows {times(10**m.growth.value)} times on its way back.",
                m.growth,
                "log10 of the gradient's largest growth over lags",
                EXPLODES,
                where,
                "Clip the gradient's norm, and start from recurrent weights that are orthogonal.",
            )
        )
    # before dead units: at the end of its range a unit gives the same output to everything
    if m.saturated.low > SATURATED and not is_shut(m):
        found.append(
            _finding(
                Cause.SATURATED,
                f"{in_percent(m.saturated.value)} of the activations lie in the flat part of their "
                "nonlinearity, where hardly any gradient passes.",
                m.saturated,
                "share of saturated activations",
                SATURATED,
                where,
                "Scale the inputs to unit variance, draw the weights afresh, use a smaller step.",
            )
        )
    if m.dead.low > DEAD:
        found.append(
            _finding(
                Cause.DEAD_UNITS,
                f"{in_percent(m.dead.value)} of the {m.units} units give the same output whatever "
                "the input.",
                m.dead,
                "share of units whose output never changes",
                DEAD,
                where,
                "Draw the weights afresh with zero biases; use a smaller step, or tanh.",
            )
        )
    confirmed = control is None or not control.learned
    words = "" if control is None else _control_words(control, m.lag)
    if m.retention is not None and m.retention.high < FORGETS:
        found.append(
            _finding(
                Cause.FORGETTING,
                f"Even the units that keep longest keep {in_percent(m.retention.value)} of their "
                f"memory over {m.lag} steps: the gates erase it.{words}",
                m.retention,
                f"part of the memory kept over {m.lag} steps",
                FORGETS,
                where,
                "Start from gate biases that keep: chrono initialisation for this lag.",
                confirmed=confirmed,
            )
        )
    if m.arriving.high < VANISHES:
        found.append(
            _finding(
                Cause.VANISHING,
                f"Of the gradient near the answer, {in_percent(10**m.arriving.value)} arrives "
                f"{m.lag} steps back.{words}",
                m.arriving,
                f"log10 of the gradient at lag {m.lag}, relative to that near the answer",
                VANISHES,
                where,
                "Start from orthogonal recurrent weights, add a skip connection over the lag, or "
                "use a gated cell.",
                confirmed=confirmed,
            )
        )
    return found


def healthy_finding(memory: Memory, need: Need, where: str) -> Finding:
    """Return the finding that the model remembers."""
    lag = f" from {need.lag} steps back and more" if need.lag else ""
    effect = memory.gained if memory.gained is not None else memory.harm
    part = (
        f"Its gain from old inputs is {in_percent(memory.gained.value)} of that of a reference "
        "predictor of all inputs at once"
        if memory.gained is not None
        else "Its loss rises when old inputs are exchanged"
    )
    return Finding(
        cause=Cause.HEALTHY,
        severity="note",
        certainty="measured",
        statement=f"The model uses inputs{lag}. {part}.",
        effect=effect,
        effect_name="gain from old inputs, relative to the reference's"
        if memory.gained is not None
        else "rise of the loss when old inputs are exchanged",
        threshold=REMEMBERS if memory.gained is not None else 0.0,
        measured_on=where,
        remedy="",
    )


def pooled_finding(need: Need, losses: Sequence[float], where: str) -> Finding:
    """Return the finding that the model is as good as the reference, and its read-out is pooled."""
    best = min((need.short, need.full), key=mean)
    return Finding(
        cause=Cause.HEALTHY,
        severity="note",
        certainty="measured",
        statement=f"The model does what can be done (loss {mean(losses):.3g}; a reference "
        f"predictor has {mean(best):.3g}). Its read-out takes in every step, so that the layer has "
        "to carry nothing far.",
        effect=difference(losses, best),
        effect_name="loss above that of the reference predictor",
        threshold=0.3 * (mean(need.constant) - mean(best)),
        measured_on=where,
        remedy="",
    )


def as_good_findings(
    need: Need, losses: Sequence[float], suspects: Sequence[Finding], where: str
) -> list[Finding]:
    """List the finding that the model is good, and the obstacles in its layer as notes.

    Arguments:
        need: losses of the reference predictors.
        suspects: obstacles.
    """
    good = Finding(
        cause=Cause.HEALTHY,
        severity="note",
        certainty="measured",
        statement=f"The model has learned: its loss is {mean(losses):.3g}, without inputs it is "
        f"{mean(need.constant):.3g}. A copy that is trained does hardly better.",
        effect=difference(need.constant, losses),
        effect_name="loss of the model below that without inputs",
        threshold=0.5 * abs(mean(need.constant)),
        measured_on=where,
        remedy="",
    )
    notes = [dataclasses.replace(f, severity="note", certainty="suspected") for f in suspects]
    return [good, *notes]


def learned_findings(
    need: Need, losses: Sequence[float], trial: Trial, suspects: Sequence[Finding], where: str
) -> list[Finding]:
    """List the finding on a model whose copy learns, first, and the obstacles as notes.

    Arguments:
        trial: trial of the model as it is, in which it learns.
        suspects: obstacles.
    """
    if leaves_little(need, trial):
        return as_good_findings(need, losses, suspects, where)
    notes = [dataclasses.replace(f, severity="note", certainty="suspected") for f in suspects]
    return [undertrained_finding(trial, where), *notes]


def without_floor(
    suspects: Sequence[Finding], need: Need, losses: Sequence[float]
) -> list[Finding]:
    """Return obstacles; only suspected ones where the loss falls below 0.

    Such a loss, of a policy's gradient for example, may fall while answers get worse. Then it is no
    evidence that an obstacle does harm, unless a copy without the obstacle learns what another does
    not. Growth of the gradient harms in any case.

    Arguments:
        suspects: obstacles in the layer.
        need: losses of the reference predictors.
        losses: held-out losses of the model.
    """
    if min(map(mean, (need.constant, need.short, need.full, losses))) >= 0:
        return list(suspects)
    return [
        f
        if f.cause is Cause.EXPLODING
        else dataclasses.replace(f, severity="warning", certainty="suspected")
        for f in suspects
    ]


def overflow_finding(losses: Sequence[float], where: str) -> Finding:
    """Return the finding that the loss is not finite, although weights and data are."""
    count = sum(not math.isfinite(loss) for loss in losses)
    return Finding(
        cause=Cause.EXPLODING,
        severity="fault",
        certainty="proved",
        statement=f"The loss of {count} of {len(losses)} held-out batches is not finite, although "
        "all weights and data are: the state has grown beyond what the numbers can hold.",
        effect=None,
        effect_name="",
        threshold=None,
        measured_on=where,
        remedy="Start again from recurrent weights whose largest singular value is 1 (orthogonal), "
        "with a smaller step and the gradient's norm clipped.",
    )


def unreadable(suspects: Sequence[Finding], mechanism: Mechanism) -> list[Finding]:
    """List the obstacles in a layer that make its read-out constant too.

    These are outputs that are constant, and states that grow beyond what the read-out tells apart.
    """
    explodes = mechanism.growth.low > EXPLODES_ANYWAY
    causes = {Cause.SATURATED, *([Cause.EXPLODING] if explodes else [])}
    return [finding for finding in suspects if finding.cause in causes]


def unread_finding(where: str) -> Finding:
    """Return the finding that the loss does not react to the layer."""
    return Finding(
        cause=Cause.DEAD_UNITS,
        severity="fault",
        certainty="proved",
        statement="The gradient of the loss is exactly 0 at every output of the layer: what reads "
        "it gives the same answer for every output of the layer.",
        effect=exactly(0.0),
        effect_name="gradient that enters the layer",
        threshold=0.0,
        measured_on=where,
        remedy="Look at the read-out: rectified units that are all off, or a saturated output. "
        "Draw its weights afresh and train with a smaller step.",
    )


def stopped_finding(error: Exception, where: str) -> Finding:
    """Return the finding that the model, the loss or the data raised in an experiment."""
    return Finding(
        cause=Cause.INCONCLUSIVE,
        severity="note",
        certainty="proved",
        statement="The examination stopped: in an experiment on a copy, the model or the loss "
        f"raised {type(error).__name__}: {error}",
        effect=None,
        effect_name="",
        threshold=None,
        measured_on=where,
        remedy="Check that the loss runs on each batch, alone and in any order, with and without "
        "gradients.",
    )


def no_need_finding(need: Need, where: str) -> Finding:
    """Return the finding that the data do not need a long memory."""
    return Finding(
        cause=Cause.NO_LONG_DEPENDENCY,
        severity="note",
        certainty="measured",
        statement=f"A predictor of the last {need.window} inputs alone does as well "
        f"(loss {mean(need.short):.3g}) as one of all inputs ({mean(need.full):.3g}); without "
        f"any input the loss is {mean(need.constant):.3g}.",
        effect=difference(need.short, need.full),
        effect_name="gain from inputs beyond the window",
        threshold=0.2 * (mean(need.constant) - min(mean(need.short), mean(need.full))),
        measured_on=where,
        remedy="Nothing needs to be done about memory. If the task was meant to need it, look at "
        "the data.",
    )


def gradient_words(mechanism: Mechanism) -> str:
    """Return the gradient that arrives at the lag in words."""
    part = in_percent(10**mechanism.arriving.value)
    return f"of the gradient near the answer {part} arrives {mechanism.lag} steps back"


def undertrained_finding(trial: Trial, where: str) -> Finding:
    """Return the finding that a copy learns when it is trained on."""
    return Finding(
        cause=Cause.UNDERTRAINED,
        severity="fault",
        certainty="measured",
        statement=f"A copy that is trained on as it is learns: its held-out loss falls from "
        f"{mean(trial.before):.3g} to {mean(trial.after):.3g} in {trial.updates} updates.",
        effect=difference(trial.after, trial.before),
        effect_name="change of the held-out loss",
        threshold=0.0,
        measured_on=where,
        remedy="Train on: Adam with learning rate 3e-3 and the gradient clipped to norm 1 did it "
        "here.",
    )


def _finding(
    cause: Cause,
    statement: str,
    effect: Estimate,
    effect_name: str,
    threshold: float,
    where: str,
    remedy: str,
    *,
    confirmed: bool = True,
) -> Finding:
    return Finding(
        cause=cause,
        severity="fault" if confirmed else "warning",
        certainty="measured" if confirmed else "suspected",
        statement=statement,
        effect=effect,
        effect_name=effect_name,
        threshold=threshold,
        measured_on=where,
        remedy=remedy,
    )


def _control_words(control: Control, lag: int) -> str:
    if control.learned:
        return (
            f" But the same layer learns the latch task at lag {lag} (loss "
            f"{control.loss.value:.2g}), so it can."
        )
    return (
        f" The same layer does not learn the latch task at this lag either (loss "
        f"{control.loss.value:.2g}; guessing has {math.log(2):.2g})."
    )
