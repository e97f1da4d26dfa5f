"""Findings about what can be predicted, and about what is known where no cause is clear."""

import math
from collections.abc import Sequence

from throughtime.doctor.brief_training import Trial
from throughtime.doctor.dependence import Part
from throughtime.doctor.intervals import difference, exactly, mean
from throughtime.doctor.need import Need
from throughtime.reports.numbers import in_percent
from throughtime.results.diagnosis import Cause, Estimate, Finding, Remedy

RULE = 0.7  # of the gain: the least that comes back of a rule
_BITS = 5.0  # a parameter: the most that a network memorises


def beats_no_input(need: Need, losses: Sequence[float]) -> bool:
    """Return whether losses are clearly below that of the best answer without inputs."""
    gain = difference(need.constant, losses)
    return gain.low > 0 or gain.value > 0.5 * abs(mean(need.constant))  # of few batches


def could_be_memorised(need: Need, losses: Sequence[float], answers: int, parameters: int) -> bool:
    """Return whether the parameters can hold what the losses are below those without inputs.

    Trained recurrent networks hold about 5 bits a parameter at most (Collins, Sohl-Dickstein and
    Sussillo, 2017). Of a loss in nats, or a squared error of Gaussian answers, the smaller number
    of bits an answer counts.

    Arguments:
        need: losses without inputs.
        losses: held-out losses of the model.
        answers: number of answers in all batches.
        parameters: number of parameters.
    """
    before, after = mean(need.constant), mean(losses)
    bits = (before - after) / math.log(2)
    if before > after > 0:
        bits = min(bits, 0.5 * math.log2(before / after))
    return bits * answers <= _BITS * parameters


def no_dependence_finding(
    need: Need,
    losses: Sequence[float],
    trial: Trial | None,
    relearned: Estimate | None,
    sequences: int,
    where: str,
) -> Finding:
    """Return the finding that nothing was found from which the targets can be predicted.

    Arguments:
        need: losses of the reference predictors.
        losses: held-out losses of the model.
        trial: trial of the model as it is; None for a model that is better than no input, on
            batches that it may have been trained on.
        relearned: share of that model's gain that came back after wrong targets, if it was
            measured.
        sequences: number of sequences in which a dependence by lag was sought.
        where: layer and batches.
    """
    without = f"without inputs it is {mean(need.constant):.3g}"
    reference = f"reference predictors have {min(mean(need.short), mean(need.full)):.3g}"
    sought = f"no dependence of the targets on the inputs by lag was found in {sequences} sequences"
    advice = (
        "Check the labels, their alignment with the inputs, the order of samples and of time, and "
        "the scaling; or pass lag=."
    )
    effect = difference(min((need.short, need.full), key=mean), need.constant)
    name = "loss of the better predictor above that without inputs"
    certain = trial is not None
    if trial is None:
        statement = (
            f"The model's loss is {mean(losses):.3g}, and {without}. But these are batches that it "
            f"may have been trained on. On batches that they were not trained on, {reference}, and "
            f"{sought}: the model may have memorised its training data."
        )
        advice = f"Pass unseen=, batches that the model was not trained on. {advice}"
    else:
        statement = (
            "Neither the model nor the reference predictors learn these targets from these inputs"
            f", nor does a copy in {trial.updates} updates: the model's loss is "
            f"{mean(losses):.3g}, {without}, {reference}. And {sought}."
        )
    threshold = -0.03 * abs(mean(need.constant))
    if trial is None and relearned is not None:
        effect, name, threshold = relearned, "share of the gain that came back", RULE
        certain = relearned.high < RULE
        share = max(0.0, relearned.value)
        statement += (
            " A copy that was trained on wrong targets of the held-out batches, and then on the "
            f"other batches again, regained {in_percent(share)} of its gain on them; a rule comes "
            "back entirely."
        )
    return Finding(
        cause=Cause.NO_DEPENDENCE,
        severity="fault" if certain else "warning",
        certainty="measured" if certain else "suspected",
        statement=statement,
        effect=effect,
        effect_name=name,
        threshold=threshold,
        measured_on=where,
        remedy=advice,
    )


def wrong_step_finding(step: int, part: Part, time: int, where: str) -> Finding:
    """Return the finding that the targets depend on inputs after the step of the answer alone.

    Arguments:
        step: step at which the answer is read.
        part: dependence by lag before the last step.
        time: number of steps.
        where: layer and batches.
    """
    first, last = time - 1 - part.end, time - 1 - part.start
    steps = f"step {last + 1}" if first == last else f"steps {first + 1} to {last + 1}"
    return Finding(
        cause=Cause.WRONG_STEP,
        severity="fault",
        certainty="measured",
        statement=f"The answer is read at step {step + 1} of {time}. The targets depend on {steps} "
        f"(correlation {part.correlation:.2g}), and no dependence was found on inputs before.",
        effect=exactly(part.correlation),
        effect_name="correlation of the targets with inputs after the answer",
        threshold=0.0,
        measured_on=where,
        remedy="Read the output of the last step: output[:, -1] of a batch_first layer, output[-1] "
        "of another; or h_n[-1].",
    )


def carried_finding(remedy: Remedy, cause: Cause, lag: int, where: str) -> Finding:
    """Return the finding that a change of the layer alone makes a copy learn.

    Arguments:
        remedy: change that is effective.
        cause: VANISHING or FORGETTING.
        lag: lag that the answer needs.
        where: layer and batches.
    """
    after, before = remedy.after, remedy.before
    return Finding(
        cause=cause,
        severity="fault",
        certainty="measured",
        statement=f"The layer does not learn to carry inputs over {lag} steps: a copy with "
        f"{remedy.name} learns (held-out loss {after.value:.3g}), one as it is, trained alike, "
        f"does not ({before.value:.3g}).",
        effect=after,
        effect_name=f"held-out loss with {remedy.name}",
        threshold=before.value,
        measured_on=where,
        remedy=f"Use {remedy.name}.",
    )


def open_finding(
    need: Need,
    losses: Sequence[float],
    lag: str,
    gradient: str,
    settles: Sequence[str],
    where: str,
) -> Finding:
    """Return what is known where no cause is clear.

    Arguments:
        need: losses of the reference predictors.
        losses: held-out losses of the model.
        lag: lag in words; "" where it is not known.
        gradient: gradient at the lag in words; "" where it was not measured.
        settles: further arguments of `diagnose`, or data, that would settle the cause.
        where: layer and batches.
    """
    known = "; ".join(part for part in (lag, gradient) if part)
    return Finding(
        cause=Cause.INCONCLUSIVE,
        severity="note",
        certainty="measured",
        statement=f"No known cause is clear of its threshold. The model's loss is "
        f"{mean(losses):.3g}. Without inputs it is {mean(need.constant):.3g}; predictors have "
        f"{mean(need.short):.3g} from the last {_inputs(need.window)}, and {mean(need.full):.3g} "
        f"from all inputs.{f' Known: {known}.' if known else ''}",
        effect=difference(need.constant, losses),
        effect_name="loss of the model below that without inputs",
        threshold=None,
        measured_on=where,
        remedy=f"To settle it: {'; '.join(settles)}." if settles else "",
    )


def _inputs(count: int) -> str:
    return "input" if count == 1 else f"{count} inputs"
