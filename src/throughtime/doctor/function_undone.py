"""Trial of a copy whose loss gets the answers without the function before them."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, final

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from throughtime.doctor.fresh_copies import FreshCopies, in_words
from throughtime.doctor.intervals import difference
from throughtime.doctor.last_functions import last_function
from throughtime.doctor.loss_calls import loss_calls
from throughtime.doctor.remedies import Condition
from throughtime.results.diagnosis import Cause, Finding

_OF_LOGITS = ("cross_entropy", "binary_cross_entropy_with_logits")
_EDGE = 1e-6  # of the range of a function, at which its inverse ends
_INVERSES: dict[str, Callable[[Tensor], Tensor]] = {
    # logits, but for a constant that cross_entropy does not see
    "Softmax": lambda y: y.clamp_min(torch.finfo(y.dtype).tiny).log(),
    "Sigmoid": lambda y: y.logit(_EDGE),
    "Tanh": lambda y: y.clamp(_EDGE - 1, 1 - _EDGE).atanh(),
}
"""Functions from a function's values to its argument, by the function's name."""


@final
class _Undone(TorchFunctionMode):
    """Mode in which losses of logits get the argument of the last function."""

    def __init__(self, name: str):
        super().__init__()
        self.inverse = _INVERSES[name]

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        del types
        options = dict(kwargs or {})
        if getattr(func, "__name__", "") in _OF_LOGITS:
            if args:
                args = (self.inverse(args[0]), *args[1:])
            else:
                options["input"] = self.inverse(options["input"])
        return func(*args, **options)


def check_function(
    copies: FreshCopies, findings: list[Finding], losses: Sequence[float], where: str
) -> Finding | None:
    """Check whether a function that does not fit the loss costs more than a part of it.

    Arguments:
        copies: trials of fresh copies.
        findings: findings so far. Where one of them says that answers do not fit the loss, although
            they are mostly right, the fault takes its place.
        losses: held-out losses of the model.
        where: layer and batches, in words.

    Returns:
        The fault, if a copy without the function reaches a loss that is clearly below that of an
        equal copy with it, and below the model's.
    """
    warnings = [finding for finding in findings if finding.cause is Cause.ANSWERS_UNFIT]
    if not warnings:
        return None
    subject = copies.trainer.subject
    calls = loss_calls(subject, subject.copy(), subject.held_out[0])[1]
    lasts = [last_function(call.answers, {}) for call in calls if call.name in _OF_LOGITS]
    if len(calls) != 1 or len(lasts) != 1 or lasts[0] is None or lasts[0].name not in _INVERSES:
        return None
    function = lasts[0]

    def change(condition: Condition) -> Condition:
        def loss(batch: Any) -> Tensor:
            with _Undone(function.name):
                return condition.loss(batch)

        return dataclasses.replace(condition, loss=loss)

    name = f"a loss of the answers before the {function.words}"
    usual = copies.plain()
    trial = None if usual is None else copies.train(name, change, updates=usual.updates)
    if usual is None or trial is None or not copies.clearly_better(trial, usual):
        return None
    if difference(trial.after, losses).high >= 0:
        return None
    copies.add_remedy(name, "", usual, trial)
    warning = warnings[0]
    findings.remove(warning)
    return dataclasses.replace(
        warning,
        severity="fault",
        certainty="measured",
        statement=f"{warning.statement} But a fresh copy with {name} reaches a held-out "
        f"loss of {in_words(trial.after)}, an equal one as it is {in_words(usual.after)}, and the "
        f"model has {in_words(losses)}.",
        effect=difference(trial.after, usual.after),
        effect_name=f"change of the held-out loss without the {function.words}",
        threshold=0.0,
        measured_on=where,
    )
