"""Check of the targets that the loss takes in, where a mask leaves out others: they differ."""

import torch
from torch import Tensor

from throughtime.doctor.intervals import exactly
from throughtime.doctor.loss_calls import (
    ARITHMETIC,
    OF_CLASSES,
    OF_PROBABILITIES,
    OF_VALUES,
    LossCall,
    gradient_beside,
    loss_calls,
)
from throughtime.doctor.subject import Subject, redraw
from throughtime.reports.numbers import in_percent
from throughtime.results.diagnosis import Cause, Finding

# a product has no derivative by the answers where the target is 0
_NAMES = (*OF_CLASSES, *OF_VALUES, *OF_PROBABILITIES)
_MOST = 8  # batches
_FEWEST = 50  # targets that the loss takes in: fewer may be equal by chance


def check_taken(subject: Subject) -> Finding | None:
    """Check that the targets that the loss takes in are not all the same where the others differ.

    The derivative of the loss by an answer is 0 where a mask leaves out its target. Weights are
    drawn afresh for each batch, so that no answer is right already.

    Arguments:
        subject: model, data and loss.
    """
    taken: list[Tensor] = []
    every: list[Tensor] = []
    names: set[str] = set()
    for seed, batch in enumerate([*subject.held_out, *subject.training][:_MOST]):
        model = subject.copy(training=True)
        redraw(model, seed)
        loss, calls = loss_calls(subject, model, batch, seed)
        calls = [call for call in calls if call.name in _NAMES and call.answers.requires_grad]
        if not calls or not loss.requires_grad:
            return None
        answers = [call.answers for call in calls]
        gradients = torch.autograd.grad(loss, answers, allow_unused=True, retain_graph=True)
        if gradient_beside(loss, answers, [p for p in model.parameters() if p.requires_grad]):
            return None
        for call, gradient in zip(calls, gradients, strict=True):
            part, whole = _targets(call, gradient)
            taken.append(part)
            every.append(whole)
            names.add(call.name)
        if len(torch.cat(taken).unique()) > 1:
            return None
    part = torch.cat(taken)
    count, of = (sum(len(part) for part in parts) for parts in (taken, every))
    if count < _FEWEST or len(torch.cat(every).unique()) < 2:
        return None
    return _constant_finding(float(part[0]), count / of, sorted(names)[0], len(taken))


def _targets(call: LossCall, gradient: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return the targets that have a derivative at their answers, and all targets."""
    moving = torch.zeros_like(call.answers) if gradient is None else gradient
    counted, answered = call.where(), moving.detach() != 0
    answered, counted = call.pairs(answered, counted)
    targets = call.targets.detach().double().expand(counted.shape)
    return targets[counted & answered], targets[counted]


def _constant_finding(value: float, share: float, name: str, calls: int) -> Finding:
    what = ARITHMETIC.get(name, f"F.{name}").replace("The", "the")
    return Finding(
        cause=Cause.NO_DEPENDENCE,
        severity="fault",
        certainty="proved",
        statement=f"The targets that the loss takes in are constant: {in_percent(share)} of those "
        f"in {what} of answers and targets have a gradient, and all of these are {value:.4g}, "
        "while the others vary. The best answer is a constant, whatever the inputs are.",
        effect=exactly(share),
        effect_name="share of the targets that the loss takes in",
        threshold=None,
        measured_on=f"fresh weights, {calls} calls",
        remedy="Look at the mask of the loss: it selects the targets that are missing or filled "
        "in. Invert it.",
    )
