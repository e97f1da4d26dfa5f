"""Checks of the user's own training by copies: step size, weight decay, weights that are ruined."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from torch import nn
from torch.optim import Optimizer

from throughtime.doctor.brief_training import Training, Trial
from throughtime.doctor.fresh_copies import FreshCopies, in_words
from throughtime.doctor.input_scale import check_scale
from throughtime.doctor.intervals import difference, exactly
from throughtime.doctor.mechanism import Mechanism
from throughtime.doctor.penalty import check_penalty
from throughtime.doctor.remedies import Condition, Trainer
from throughtime.doctor.training_step import FALLEN, listed, rate_of
from throughtime.doctor.user_training import OptimizerOf
from throughtime.doctor.verdict import SATURATED, is_shut
from throughtime.foreign.sites import find_recurrent
from throughtime.reports.numbers import in_percent
from throughtime.results.diagnosis import Cause, Estimate, Finding

_SLOW, _SMALL, _LARGE = 1 / 3, 1 / 50, 30.0  # of distances, relative to the doctor's training
_USUAL_IN_WORDS = "Adam, learning rate 3e-3, gradient clipped to norm 1"
_NOT_LEARNED = 0.2  # of the gain of the doctor's training: below it the user's does not learn


def check_training(copies: FreshCopies, where: str) -> Finding | None:
    """Check a penalty in the loss, then the user's own step and optimiser.

    Arguments:
        copies: trials; the trainer has the user's step and optimiser.
        where: layer and batches, in words.
    """
    return check_penalty(copies, where) or check_own_training(copies, where)


def check_own_training(copies: FreshCopies, where: str) -> Finding | None:
    """Train a fresh copy by the user's own step or optimiser, and an equal one by the doctor's.

    Where the doctor's learns and the user's does not, a learning rate that falls to nothing is kept
    where it starts, the weight decay is taken away, and the learning rate is changed by powers of
    10: so that the user's updates go about as far as the doctor's. Where none helps, updates are at
    fault that go much farther, or not nearly as far.

    Arguments:
        copies: trials; the trainer has the user's step and optimiser.
        where: layer and batches, in words.
    """
    trainer = copies.trainer
    if trainer.optimizer is None:
        return None
    own = Training(own="optimizer" if trainer.step is None else "step", clip_norm=None)
    usual = copies.plain()
    if usual is None or not copies.learns(usual):
        return None
    made: list[Optimizer] = []
    watched = Trainer(trainer.subject, trainer.seed, trainer.step, _kept(trainer.optimizer, made))
    theirs = copies.train("your own training", trainer=watched, training=own)
    if theirs is None or (theirs.updates < usual.updates and not theirs.diverged):
        return None
    limit = _NOT_LEARNED * copies.gain(usual)
    if copies.gain(theirs) >= limit or difference(usual.after, theirs.after).high >= 0:
        return None
    subject = trainer.subject
    groups = trainer.optimizer(subject.copy(training=True)).param_groups
    rate = max((float(group["lr"]) for group in groups if "lr" in group), default=0.0)
    left = rate_of(made[-1]) if made else rate
    decay = max(float(group.get("weight_decay", 0.0)) for group in groups)
    words_of = "training_step" if trainer.step is not None else "optimiser"
    words = (
        f"A fresh copy that is trained by your own {words_of} does not learn: held-out loss "
        f"{in_words(theirs.after)} after {theirs.updates} updates"
        f"{', where it diverges' if theirs.diverged else ''}; by the doctor's training, Adam at "
        f"3e-3, an equal one has {in_words(usual.after)}. "
    )
    changes: list[_Setting] = []
    if left < FALLEN * rate:
        words += f"It lowers the learning rate from {rate:.3g} to {left:.3g} meanwhile. "
        name = f"a learning rate that stays at {rate:.3g}"
        remedy = "Lower the learning rate once an epoch, not in each step, or more slowly."
        changes.append(_Setting(Cause.STEP_SIZE, name, f"# {remedy}", f"{left:.3g}", remedy))
    if decay > 0:
        code, was = "weight_decay=0", f"{decay:g}"
        remedy = f"Set {code}, in place of {was}."
        name = "a weight decay of 0"
        changes.append(_Setting(Cause.WEIGHT_DECAY, name, code, was, remedy, decay=0.0))
    distance = _relative_distance(copies, own)
    for factor in _factors(distance) if rate > 0 else ():
        code, was = f"lr={rate * factor:.3g}", f"{rate:g}"
        remedy = f"Set {code}, in place of {was}."
        name = f"a learning rate of {rate * factor:.3g}"
        changes.append(_Setting(Cause.STEP_SIZE, name, code, was, remedy, factor=factor))
    for change in changes:
        maker = _changed(trainer.optimizer, change)
        other = Trainer(subject, trainer.seed, trainer.step, maker)
        trial = copies.train(change.name, trainer=other, training=own)
        if trial is None or trial.diverged or not copies.clearly_better(trial, theirs):
            continue
        copies.add_remedy(f"{change.name} in your own training", change.code, theirs, trial)
        return Finding(
            cause=change.cause,
            severity="fault",
            certainty="measured",
            statement=f"{words}With {change.name} in place of {change.was} it does.",
            effect=difference(trial.after, theirs.after),
            effect_name=f"change of the held-out loss with {change.name}",
            threshold=0.0,
            measured_on=where,
            remedy=change.remedy,
        )
    if _SMALL / 10 < distance < _LARGE:
        return None
    copies.add_remedy("the doctor's training", "# " + _USUAL_IN_WORDS, theirs, usual)
    far = f"{distance:,.0f} times as far as"
    if distance < 1:
        far = f"{1 / distance:,.0f} times less far than"
    return Finding(
        cause=Cause.STEP_SIZE,
        severity="fault",
        certainty="measured",
        statement=f"{words}Ten of your updates move the weights {far} the doctor's: "
        f"the steps are too {'large' if distance > 1 else 'small'}.",
        effect=exactly(distance),
        effect_name="distance of ten updates, relative to that of the doctor's training",
        threshold=_LARGE if distance > 1 else _SMALL / 10,
        measured_on=where,
        remedy=f"Train with {_USUAL_IN_WORDS}; the learning rate is {rate:g} now.",
    )


def check_learning(copies: FreshCopies, where: str) -> Finding | None:
    """Check scale and step size, where a copy of the model learns when it is trained on.

    Arguments:
        copies: trials of fresh copies.
        where: layer and batches, in words.
    """
    return check_scale(copies, where, saturated=False) or _check_distance(copies, where)


def _check_distance(copies: FreshCopies, where: str) -> Finding | None:
    """Check whether the user's updates are far shorter than those by which a copy learns."""
    trainer = copies.trainer
    if trainer.optimizer is None:
        return None
    own = Training(own="optimizer" if trainer.step is None else "step", clip_norm=None)
    distance = _relative_distance(copies, own)
    if distance >= _SMALL:
        return None
    return Finding(
        cause=Cause.STEP_SIZE,
        severity="fault",
        certainty="measured",
        statement=f"A copy learns by the doctor's training. Ten of your own updates move the "
        f"weights {1 / distance:,.0f} times less far: the steps are too small.",
        effect=exactly(distance),
        effect_name="distance of ten updates, relative to that of the doctor's training",
        threshold=_SMALL,
        measured_on=where,
        remedy=f"Train with {_USUAL_IN_WORDS}; or look for what makes the updates small: the "
        "learning rate, a limit of the gradient's norm, eps of Adam.",
    )


@dataclasses.dataclass(frozen=True)
class _Setting:
    """Change of a setting of the user's optimiser.

    Attributes:
        cause: verdict if it helps.
        name, code, was, remedy: the change, its code, the value before, and advice.
        factor: factor of the learning rate; None where it is held at its start.
        decay: weight decay; None where it stays.
    """

    cause: Cause
    name: str
    code: str
    was: str
    remedy: str
    factor: float | None = None
    decay: float | None = None


def _changed(optimizer: OptimizerOf, change: _Setting) -> OptimizerOf:
    """Return a maker of optimisers with a change."""

    def make(model: nn.Module) -> Optimizer:
        made = optimizer(model)
        for group in made.param_groups:
            if "lr" in group and change.factor is not None:
                group["lr"] = group["lr"] * change.factor
            if "weight_decay" in group and change.decay is not None:
                group["weight_decay"] = change.decay
        if change.factor is None and change.decay is None:
            rates = [group.get("lr") for group in made.param_groups]

            def hold(*_: Any) -> None:
                for group, rate in zip(made.param_groups, rates, strict=True):
                    group["lr"] = rate

            made.register_step_pre_hook(hold)
        return made

    return make


def _kept(optimizer: OptimizerOf, made: list[Optimizer]) -> OptimizerOf:
    """Return a maker that adds its optimisers to a list."""

    def make(model: nn.Module) -> Optimizer:
        made.append(optimizer(model))
        return made[-1]

    return make


def _factors(distance: float) -> list[float]:
    """List the factors of the learning rate that may help, the likeliest first.

    Arguments:
        distance: distance of the user's updates, relative to those of the doctor's. Steps that are
            only a little smaller are slow, which is no fault.
    """
    if not math.isfinite(distance):
        return [0.1, 0.01, 0.001]
    power = -round(math.log10(max(distance, 1e-12)))
    powers = [power, power - 1, power + 1]
    if distance < _SMALL:
        return [10.0**p for p in powers if p > 0]
    return [10.0**p for p in powers if p < 0] if distance > _SLOW else []


def _relative_distance(copies: FreshCopies, own: Training) -> float:
    """Return the distance of ten updates of the user's, relative to that of the doctor's."""
    trainer, moved = copies.trainer, list[float]()
    for training in (own, Training()):
        condition = copies.condition()
        start = [p.detach().clone() for p in condition.parameters()]
        update = trainer.update(condition, training)
        for k in range(10):
            update(trainer.subject.training[k % len(trainer.subject.training)])
        ends = [p.detach() for p in condition.parameters()]
        squares = [float((a - b).square().sum()) for a, b in zip(ends, start, strict=True)]
        moved.append(math.sqrt(sum(squares)))
    finite = math.isfinite(moved[0]) and moved[1] > 0
    return max(moved[0] / moved[1], 1e-12) if finite else math.inf


def check_weights(
    copies: FreshCopies, mechanism: Mechanism, trial: Trial, where: str
) -> Finding | None:
    """Check whether the weights are at fault where the layer is saturated: a fresh copy learns.

    If the gates that keep the memory are the ones at their closed end, it forgets.

    Arguments:
        copies: trials of fresh copies.
        mechanism: measurements of the layer with the given weights.
        trial: trial of the given weights, by the doctor's training.
        where: layer and batches, in words.
    """
    usual = copies.plain()
    if usual is None or not copies.clearly_better(usual, trial):
        return None
    copies.add_remedy(
        "fresh weights and smaller steps",
        f"# make the model anew; {_USUAL_IN_WORDS}",
        trial,
        usual,
    )
    subject = copies.trainer.subject
    _, module = find_recurrent(subject.copy(), copies.layer)
    moved = moved_biases(module)
    statement = (
        f"The weights are at fault: {in_percent(mechanism.saturated.value)} of the activations lie "
        "in the flat part of their nonlinearity, and a copy does not learn, but one with fresh "
        "weights does."
    )
    if moved is not None:
        statement += (
            f" Training moved them there: the two biases of a unit, which get the same updates, "
            f"lie {moved:.1f} from 0 together."
        )
    if moved is None and is_shut(mechanism):
        return _shut_finding(mechanism, difference(usual.after, trial.after), where)
    return Finding(
        cause=Cause.SATURATED if moved is None else Cause.STEP_SIZE,
        severity="fault",
        certainty="measured" if moved is None else "suspected",
        statement=statement,
        effect=difference(usual.after, trial.after),
        effect_name="held-out loss with fresh weights, minus that with the given ones",
        threshold=0.0,
        measured_on=where,
        remedy="Make the model anew and train with a smaller learning rate (Adam at 3e-3 learned "
        "here), clipped, with gradients zeroed in each step; pass training_step= and optimizer= to "
        "see which it is."
        if moved is not None
        else "Draw smaller initial weights: the default ones of torch learned here. Or train with "
        "a smaller step.",
    )


def _shut_finding(mechanism: Mechanism, effect: Estimate, where: str) -> Finding:
    keeping, retention = mechanism.keeping, mechanism.retention
    assert keeping is not None
    assert retention is not None
    return Finding(
        cause=Cause.FORGETTING,
        severity="fault",
        certainty="measured",
        statement="The weights are at fault: the gates that keep the memory are closed. Even those "
        f"of the units that keep longest let {in_percent(keeping.value)} through at a step, on "
        f"average, and {in_percent(retention.value)} over {mechanism.lag} steps. A copy does not "
        "learn, but one with fresh weights does.",
        effect=effect,
        effect_name="held-out loss with fresh weights, minus that with the given ones",
        threshold=0.0,
        measured_on=where,
        remedy="Look for what sets the biases of these gates far below 0, such as a loop over all "
        "parameters with 'bias' in their names. Start from 1 or more, or by chrono initialisation.",
    )


_MOVED = 1.0  # root mean square of the sum of two biases: fresh ones are below 0.3 at 16 units


def moved_biases(module: Any) -> float | None:
    """Return the root mean square of b_ih + b_hh, where training moved both by the same.

    They get the same gradient, but for the candidate of a GRU, and the same updates. So their
    difference is that of their start.

    Arguments:
        module: recurrent module with biases bias_ih... and bias_hh...

    Returns:
        The size; None where they are small, differ, or are not there.
    """
    named = dict(module.named_parameters())
    largest: float | None = None
    for name, inner in named.items():
        other = named.get(name.replace("bias_ih", "bias_hh"))
        if not name.startswith("bias_ih") or other is None or other.shape != inner.shape:
            continue
        kept = 2 * len(inner) // 3 if isinstance(module, nn.GRU | nn.GRUCell) else len(inner)
        a, b = inner.detach().double()[:kept], other.detach().double()[:kept]
        # within gates: a start may give all units of a gate the same bias
        spread = (a + b).reshape(-1, int(module.hidden_size)).std(1, correction=0)
        together, apart = (float(x.square().mean().sqrt()) for x in (spread, a - b))
        if together > _MOVED and apart < 0.3 * together:
            largest = max(together, largest or 0.0)
    return largest


def check_frozen(copies: FreshCopies, where: str) -> Finding | None:
    """Check whether parameters of the layer that are frozen keep the model from learning.

    Arguments:
        copies: trials of fresh copies.
        where: layer and batches, in words.
    """
    _, module = find_recurrent(copies.trainer.subject.copy(), copies.layer)
    frozen = [name for name, p in module.named_parameters() if not p.requires_grad]
    if not frozen:
        return None

    def trained(condition: Condition) -> Condition:
        find_recurrent(condition.model, copies.layer)[1].requires_grad_(True)
        return condition

    usual, trial = copies.plain(), copies.train("all parameters of the layer trained", trained)
    if usual is None or trial is None or not copies.clearly_better(trial, usual):
        return None
    layer = copies.layer or "model"
    code = f"{layer}.requires_grad_(True)  # before the optimiser is made"
    copies.add_remedy("all parameters of the layer trained", code, usual, trial)
    return Finding(
        cause=Cause.NOT_TRAINED,
        severity="fault",
        certainty="measured",
        statement=f"{listed(frozen)} of layer {copies.layer!r} are frozen. A fresh copy that "
        "trains them learns, an equal one as it is does not.",
        effect=difference(trial.after, usual.after),
        effect_name="change of the held-out loss with them trained",
        threshold=0.0,
        measured_on=where,
        remedy=f"Call {layer}.requires_grad_(True) before the optimiser is made.",
    )


def check_copies(
    copies: FreshCopies,
    mechanism: Mechanism,
    trial: Trial,
    suspects: Sequence[Finding],
    where: str,
) -> Finding | None:
    """Check scale and weights, where a copy as it is does not learn.

    Arguments:
        copies: trials of fresh copies.
        mechanism: measurements of the layer.
        trial: trial of the model as it is.
        suspects: obstacles in the layer; where there are none, a scale counts that seldom matters.
        where: layer and batches, in words.
    """
    saturated = mechanism.saturated.low > SATURATED
    return (
        check_scale(copies, where, saturated=saturated)
        or check_frozen(copies, where)
        or (check_weights(copies, mechanism, trial, where) if saturated else None)
        or (None if suspects else check_scale(copies, where, saturated=False, mild=True))
    )
