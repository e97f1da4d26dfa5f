"""Check of the loss: a penalty of the weights in it does not keep the model from learning."""

import dataclasses
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from throughtime.doctor.data_pairs import RAISED
from throughtime.doctor.fresh_copies import FreshCopies, in_words
from throughtime.doctor.intervals import difference, exactly, mean
from throughtime.doctor.loss_calls import gradient_beside
from throughtime.doctor.remedies import LEAST_SECONDS, Trainer
from throughtime.doctor.subject import Subject, redraw
from throughtime.foreign.sites import kept_outputs
from throughtime.reports.numbers import times
from throughtime.results.diagnosis import Cause, Finding

_NOT_LEARNED = 0.2  # of the gain without the penalty: below it a copy with it does not learn
_SAME = 1e-3  # difference of one penalty on two batches, relative to the loss: of rounding


def check_penalty(copies: FreshCopies, where: str) -> Finding | None:
    """Train a fresh copy without the penalty of weights that is within the loss, if there is one.

    Where it learns, and neither the model nor a copy that is trained with the penalty does, the
    penalty is at fault. All three are compared by the loss without it.

    Arguments:
        copies: trials of fresh copies.
        where: layer and batches, in words.
    """
    trainer = copies.trainer
    subject = trainer.subject
    if copies.clock.left() < LEAST_SECONDS:
        return None
    try:
        other = without_penalty(subject)
        if other is None:
            return None
        usual = copies.plain()
        if usual is None or copies.model is None:
            return None
        penalised = [other.held_out_losses(m) for m in (copies.model, subject.copy())]
    except RAISED:  # of a loss that reads more of the model than its answers
        return None
    free = FreshCopies(Trainer(other, trainer.seed), copies.layer, copies.need, copies.clock)
    trial = free.plain()
    if trial is None or free.model is None or not free.learns(trial):
        return None
    for losses in penalised:
        gain = mean(copies.need.constant) - mean(losses)
        if gain >= _NOT_LEARNED * free.gain(trial) or difference(trial.after, losses).high >= 0:
            return None
    rest = mean(other.held_out_losses(free.model))
    factor = (mean(subject.held_out_losses(free.model)) - rest) / abs(rest)
    name, code = (
        "a loss without the penalty of weights",
        "# take the penalty of the weights out of the loss",
    )
    copies.add_remedy(name, code, dataclasses.replace(usual, after=penalised[0]), trial)
    return Finding(
        cause=Cause.WEIGHT_DECAY,
        severity="fault",
        certainty="measured",
        statement="The loss holds a penalty of the weights, which does not depend on the answers. "
        f"A fresh copy that is trained without it learns: its loss is {in_words(trial.after)}, "
        f"that of an equal one with it {in_words(penalised[0])}, both without the penalty. At the "
        f"weights that have learned, the penalty is {times(factor)} times the rest.",
        effect=exactly(factor),
        effect_name="penalty, relative to the rest of the loss, of a copy that has learned",
        threshold=None,
        measured_on=where,
        remedy="Take the penalty out of the loss, or make its factor so small that it stays below "
        f"the rest: divide it by {times(10 * factor)} at least.",
    )


def without_penalty(subject: Subject) -> Subject | None:
    """Return the same model and data, with the loss of the answers alone.

    The loss function gets a module whose parameters are 0, and which passes calls on to the model.

    Arguments:
        subject: model, data and loss.

    Returns:
        The subject; None where the loss has no part that is the same for all batches, above 0, and
        depends on parameters otherwise than through the answers.
    """
    model = subject.copy()
    redraw(model, 0)  # the penalty may have brought the given weights to 0
    with kept_outputs(model) as outputs:
        torch.manual_seed(0)
        loss = subject.loss(model.train(), subject.training[0])
    leaves = pytree.tree_leaves(outputs)
    answers = [t for t in leaves if isinstance(t, Tensor) and t.requires_grad]
    parameters = [p for p in model.parameters() if p.requires_grad]
    if not answers or not gradient_beside(loss, answers, parameters):
        return None
    shell = subject.copy().requires_grad_(False)
    with torch.no_grad():
        for parameter in shell.parameters():
            parameter.zero_()

    def of_answers(model: nn.Module, batch: Any) -> Tensor:
        vars(shell)["forward"] = lambda *given, **named: model(*given, **named)
        return subject.loss(shell.train(model.training), batch)

    other = subject.altered(lambda model: None)
    other.loss_fn = of_answers
    full, rest = (one.held_out_losses(model.eval()) for one in (subject, other))
    penalties = [a - b for a, b in zip(full, rest, strict=True)]
    limit = _SAME * max(map(abs, full))
    if not min(penalties) > limit or max(penalties) - min(penalties) > limit:
        return None
    return other
