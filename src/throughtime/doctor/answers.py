"""Check of the answers: their kind and range fit the loss."""

import contextlib
import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from throughtime.doctor.intervals import exactly
from throughtime.doctor.last_functions import LastFunction, last_function, views_before
from throughtime.doctor.loss_calls import (
    OF_CLASSES,
    OF_LOGITS,
    OF_PROBABILITIES,
    OF_VALUES,
    LossCall,
    loss_calls,
)
from throughtime.doctor.subject import Subject
from throughtime.foreign.sites import kept_outputs, recurrent_layers
from throughtime.foreign.unchanged import modes_kept
from throughtime.reports.numbers import in_percent
from throughtime.results.diagnosis import Cause, Finding

_BATCHES = 4  # on which answers are looked at
_SUM = 1e-3  # error of a sum of probabilities
_SUM_OF_LOGS = 0.01  # likewise, in its logarithm
_RARE = 0.05  # of the targets: a label that is rarer counts with the others alone
SOLVED = 0.7  # of what there is to gain over a constant answer: above it a model learns anyway
ALL_BUT = 0.95  # likewise: above it a model has what it needs
OF_PREDICTORS_TOO = (
    Cause.SAMPLES_MIXED,
    Cause.ANSWERS_UNFIT,
    Cause.TARGETS_MISPAIRED,
    Cause.WRONG_STEP,
    Cause.ONE_STEP,
)
"""Causes that the reference predictors have too: that a copy learns as they do is no proof."""
_OUT_OF_REACH = 0.1  # of the loss of a constant answer, that no weights can get rid of


def check_answers(subject: Subject) -> Finding | None:
    """Check that the answers are of the kind that the loss takes, and can reach the targets.

    Arguments:
        subject: model, data and loss.
    """
    model = subject.copy()
    runs: list[list[LossCall]] = []
    with contextlib.ExitStack() as stack:
        bare = {
            name: (module, stack.enter_context(kept_outputs(module)))
            for name, module in recurrent_layers(model).items()
        }
        named = _named_outputs(model, stack)
        runs.extend(loss_calls(subject, model, batch)[1] for batch in subject.held_out[:_BATCHES])
        lasts = [_last(call, bare) for call in runs[0]]
        places = [_place(call.answers, named, type(model).__name__) for call in runs[0]]
    if len({len(calls) for calls in runs}) != 1:
        return None
    for k, last in enumerate(lasts):
        calls = [run[k] for run in runs]
        if len({call.answers.dim() for call in calls}) != 1:
            continue
        fault = _unfit(calls, last)
        if fault is not None:
            return _finding(fault, calls, places[k])
    return None


def _last(call: LossCall, bare: dict[str, tuple[nn.Module, list[Any]]]) -> LastFunction | None:
    """Return the last function; that before a log_softmax, if its values are bounded."""
    last = last_function(call.answers, bare)
    if last is None or last.name != "LogSoftmax" or call.name not in OF_CLASSES:
        return last
    before = last_function(call.answers, bare, through=("LogSoftmax",))
    bounded = before is not None and not math.isinf(before.high - before.low)
    return before if bounded and _normalised(call.answers, call.class_axis) else last


def _normalised(answers: Tensor, axis: int) -> bool:
    """Return whether numbers are log-probabilities, which sum to 1 over an axis."""
    return float(answers.detach().double().logsumexp(axis).abs().max()) < _SUM_OF_LOGS


@dataclasses.dataclass(frozen=True)
class _Unfit:
    """Misfit of answers and loss.

    Attributes:
        statement: the misfit in one sentence.
        remedy: the change, in which {place} stands for the place in the model.
        floor: least loss that is possible, relative to that of a constant answer; 0 if not known.
    """

    statement: str
    remedy: str
    floor: float = 0.0


def _unfit(calls: Sequence[LossCall], last: LastFunction | None) -> _Unfit | None:
    name = calls[0].name
    constant = last is not None and last.name == "Softmax"
    if constant and all(bool((call.answers == 1).all()) for call in calls):
        return _Unfit(
            "Every answer is 1, for every input: a softmax over an axis of one entry gives 1.",
            "Take the softmax away at {place}: with one unit, use "
            "F.binary_cross_entropy_with_logits and no function after the last linear layer.",
            1.0,
        )
    if name in OF_CLASSES:
        return _unfit_classes(calls, last)
    if name == "kl_div":
        return _unfit_divergence(calls)
    if last is None or (math.isinf(last.low) and math.isinf(last.high)):
        return None
    if name in OF_LOGITS:
        return _unfit_logits(calls, last)
    if name == "binary_cross_entropy" and last.name == "Softmax":
        return _unfit_labels(calls)
    return _out_of_reach(calls, last) if name in OF_VALUES else None


def _unfit_classes(calls: Sequence[LossCall], last: LastFunction | None) -> _Unfit | None:
    name, axis = calls[0].name, calls[0].class_axis
    classes = calls[0].answers.shape[axis]
    if classes == 1:
        return _Unfit(
            f"{name} gets answers with one class: their loss does not depend on the model.",
            "Let the model answer with one number for each class at {place}; or, for yes and no, "
            "use F.binary_cross_entropy_with_logits.",
            1.0,
        )
    probabilities = all(_are_probabilities(call) for call in calls)
    normalised = all(_normalised(call.answers, axis) for call in calls)
    if name == "nll_loss" and not normalised:
        if last is not None and last.name == "LogSoftmax":
            return _Unfit(
                f"nll_loss gets a log_softmax over another axis than that of the classes, axis "
                f"{axis} of {tuple(calls[0].answers.shape)}: no answer's probabilities sum to 1.",
                "Take log_softmax over the axis of the classes at {place}, before any view.",
            )
        if not probabilities and all(bool((call.answers <= 0).all()) for call in calls):
            return None
        kind = "probabilities" if probabilities else "not normalised"
        return _Unfit(
            f"nll_loss takes log-probabilities, and the answers are {kind}.",
            "Use log_softmax(dim=1) at {place}; or no such function at all, and F.cross_entropy.",
        )
    low, high = (0.0, 1.0) if probabilities else (-math.inf, math.inf)
    if last is not None and not probabilities:
        low, high = last.low, last.high
    if math.isinf(high - low):
        return _dead_classes(calls, last)
    floor = math.log1p((classes - 1) * math.exp(low - high))
    if floor < _OUT_OF_REACH * math.log(classes):
        return None
    function = "softmax" if last is None or probabilities else last.words
    given = "probabilities (they sum to 1)" if probabilities else f"between {low:g} and {high:g}"
    takes = f"cross_entropy takes logits, and the answers are {given}: it takes their softmax"
    if normalised and last is not None:
        takes = f"log_softmax takes logits, and gets numbers {_span(last)} ({function})"
    return _Unfit(
        f"{takes}{' once more' if function == 'softmax' and not normalised else ''}, and no "
        f"weights bring the loss below {floor:.3g} (guessing has {math.log(classes):.3g}).",
        _without(function),
        floor / math.log(classes),
    )


def _dead_classes(calls: Sequence[LossCall], last: LastFunction | None) -> _Unfit | None:
    """Return the misfit of classes whose answers a ReLU sets to 0 for every sample."""
    if last is None or last.name != "Relu" or not all(call.indexed for call in calls):
        return None
    axis = calls[0].class_axis
    answers = torch.cat([call.answers.movedim(axis, -1)[call.where()] for call in calls])
    targets = torch.cat([call.targets[call.where()] for call in calls])
    dead = (answers == 0).all(0)
    share = float(dead[targets].double().mean())
    if not share > _RARE:
        return None
    named = ", ".join(map(str, dead.nonzero()[:, 0].tolist()))
    return _Unfit(
        f"{calls[0].name} takes logits, and a ReLU comes last: its answers for class {named} are 0 "
        f"for each of {len(targets)} targets, of which {in_percent(share)} are of such a class. "
        "There a ReLU has no gradient.",
        _without(last.words),
    )


def _unfit_divergence(calls: Sequence[LossCall]) -> _Unfit | None:
    """Return the misfit of answers that are no log-probabilities, under F.kl_div."""
    if not all(bool((call.targets >= 0).all()) for call in calls):
        return None  # logarithms: of the targets, or as the first operand
    if all(bool((call.answers >= 0).all()) for call in calls):
        return _Unfit(
            "F.kl_div takes log-probabilities, and the answers are probabilities.",
            "Take the logarithm at {place}: log_softmax in place of softmax.",
        )
    axes = range(calls[0].answers.dim())
    whole = all(_normalised(call.answers.flatten(1), -1) for call in calls)
    if whole or any(all(_normalised(call.answers, axis) for call in calls) for axis in axes):
        return None
    return _Unfit(
        "F.kl_div takes log-probabilities, and the answers are not normalised: it falls without "
        "end as they grow.",
        "Use log_softmax over the classes at {place}.",
    )


def _unfit_logits(calls: Sequence[LossCall], last: LastFunction) -> _Unfit | None:
    share = _share(calls)
    if not 0 < share < 1:
        return None
    entropy = _entropy(share)
    floor = share * _softplus(-last.high) + (1 - share) * _softplus(last.low)
    if floor < _OUT_OF_REACH * entropy:
        return None
    return _Unfit(
        f"{calls[0].name} takes logits, and the answers are {_span(last)} "
        f"({last.words}): with the loss's own sigmoid, no weights bring it below {floor:.3g} "
        f"(a constant answer has {entropy:.3g}).",
        _without(last.words),
        floor / entropy,
    )


def _unfit_labels(calls: Sequence[LossCall]) -> _Unfit | None:
    """Return the misfit of probabilities that sum to 1 and labels of which several are true.

    Of m true labels of n, the least loss is m log m, with 1/m for each; of none, n log n/(n - 1).
    """
    first = calls[0].answers.detach().double()
    axes = [a for a in range(first.dim()) if float((first.sum(a) - 1).abs().max()) < _SUM]
    same = all(call.answers.shape == call.targets.shape for call in calls)
    whole = all(bool(((c.targets == 0) | (c.targets == 1)).all()) for c in calls)
    share = _share(calls)
    if len(axes) != 1 or not same or not whole or not 0 < share < 1:
        return None
    labels = first.shape[axes[0]]
    true = torch.cat([call.targets.double().sum(axes[0]).flatten() for call in calls])
    none = labels * math.log(labels / (labels - 1)) if labels > 1 else math.inf
    least = torch.where(true == 0, none, true.xlogy(true)).mean()
    floor, entropy = float(least) / labels, _entropy(share)
    if floor < _OUT_OF_REACH * entropy:
        return None
    several = in_percent(float((true > 1).double().mean()))
    return _Unfit(
        f"binary_cross_entropy takes a probability for each label by itself, and the answers sum "
        f"to 1 over the {labels} labels (softmax), of which several are true in {several} of the "
        f"samples: no weights bring it below {floor:.3g} (a constant answer has {entropy:.3g}).",
        "Put a sigmoid in place of the softmax at {place}; or take it away, and use "
        "F.binary_cross_entropy_with_logits.",
        floor / entropy,
    )


def _entropy(share: float) -> float:
    return -share * math.log(share) - (1 - share) * math.log1p(-share)


def _without(function: str) -> str:
    if function.startswith("the recurrent layer"):
        return f"Put an nn.Linear between {function} and the loss."
    return (
        f"Take the {function} away at {{place}}; use it where answers are shown, not in the loss."
    )


def _softplus(x: float) -> float:
    return 0.0 if x == -math.inf else math.log1p(math.exp(x))


def _span(last: LastFunction) -> str:
    if math.isinf(last.high):
        return f"never below {last.low:g}"
    if math.isinf(last.low):
        return f"never above {last.high:g}"
    return f"between {last.low:g} and {last.high:g}"


def _out_of_reach(calls: Sequence[LossCall], last: LastFunction) -> _Unfit | None:
    targets = torch.cat([call.targets[call.where()].detach().double() for call in calls])
    if len(targets) < 2 or float(targets.var()) == 0:
        return None
    beyond = targets - targets.clamp(last.low, last.high)
    floor = float(beyond.square().mean() / targets.var())
    if floor < _OUT_OF_REACH:
        return None
    share = float((beyond != 0).double().mean())
    bounded = last.words.startswith("the recurrent layer")
    return _Unfit(
        f"The answers are the bare outputs of {last.words if bounded else 'a ' + last.words}, "
        f"{_span(last)}; {in_percent(share)} of the targets ({float(targets.min()):.3g} to "
        f"{float(targets.max()):.3g}) are out of their reach.",
        _without(last.words)
        if bounded
        else f"Take the {last.words} away at {{place}}: a linear layer comes last; or scale the "
        "targets into its range.",
        floor,
    )


def _are_probabilities(call: LossCall) -> bool:
    answers = call.answers.detach().double()
    sums = answers.sum(call.class_axis)
    return bool((answers >= 0).all()) and float((sums - 1).abs().max()) < _SUM


def _finding(fault: _Unfit, calls: Sequence[LossCall], place: str) -> Finding:
    gained = [solved_share(one) for one in (calls, *_by_label(calls))]
    anyway = gained[0] is not None and all(g is None or g > SOLVED for g in gained)
    return Finding(
        cause=Cause.ANSWERS_UNFIT,
        severity="warning" if anyway else "fault",
        certainty="proved",
        statement=fault.statement
        + (" The answers are mostly right all the same." if anyway else ""),
        effect=exactly(fault.floor) if fault.floor else None,
        effect_name="least possible loss, relative to that of a constant answer"
        if fault.floor
        else "",
        threshold=_OUT_OF_REACH if fault.floor else None,
        measured_on=f"{sum(call.answers.numel() for call in calls)} answers of "
        f"{len(calls)} held-out batch{'es' if len(calls) > 1 else ''}",
        remedy=fault.remedy.format(place=place),
    )


def _by_label(calls: Sequence[LossCall]) -> list[list[LossCall]]:
    """Divide calls of a binary loss by the last axis: one label may be right, and another constant.

    Labels that are nearly always the same are left out: a single sample would decide.
    """
    first = calls[0].targets
    same = all(call.answers.shape == call.targets.shape for call in calls)
    if calls[0].name not in OF_PROBABILITIES or not same or first.dim() < 2:
        return []
    labels = [
        [LossCall(call.name, call.answers[..., k], call.targets[..., k]) for call in calls]
        for k in range(min(call.targets.shape[-1] for call in calls))
    ]
    return [one for one in labels if _RARE < _share(one) < 1 - _RARE]


def _share(calls: Sequence[LossCall]) -> float:
    return float(torch.cat([call.targets[call.where()].double() for call in calls]).mean())


def _named_outputs(model: nn.Module, stack: contextlib.ExitStack) -> list[tuple[str, Any]]:
    """Keep the results of modules without parameters: functions, each with a name in the model."""
    found: list[tuple[str, Any]] = []
    for name, module in model.named_modules():
        if name and not any(True for _ in module.parameters()):

            def keep(module: nn.Module, inputs: Any, output: Any, name: str = name) -> None:
                del inputs
                if isinstance(output, Tensor):
                    found.append((f"{name} ({type(module).__name__})", output.grad_fn))

            stack.callback(module.register_forward_hook(keep).remove)
    return found


def _place(answers: Tensor, named: Sequence[tuple[str, Any]], model: str) -> str:
    """Return the place of the last function in words: a module, or the end of forward."""
    nodes = views_before(answers)
    names = [name for name, node in named if node in nodes]
    return names[-1] if names else f"the end of {model}.forward, or before the loss"


def solved(subject: Subject, model: nn.Module | None = None) -> float | None:
    """Return the part of what there is to gain over a constant answer, on held-out batches.

    Arguments:
        subject: model, data and loss.
        model: copy of the model that is measured; a fresh one by default.

    Returns:
        The largest of all losses' parts; None where it is not known.
    """
    model = subject.copy() if model is None else model
    with modes_kept(model):
        model.eval()
        runs = [loss_calls(subject, model, batch)[1] for batch in subject.held_out[:_BATCHES]]
    if len({len(calls) for calls in runs}) != 1:
        return None
    shares = [solved_share(calls) for calls in zip(*runs, strict=True)]
    return max((share for share in shares if share is not None), default=None)


def unsolved(subject: Subject, model: nn.Module) -> bool:
    """Return whether a model's answers gain less than most of what there is to gain.

    Arguments:
        subject: data and loss.
        model: copy of the subject's model.
    """
    gained = solved(subject, model)
    return gained is not None and gained <= SOLVED


def uncounted(subject: Subject, fault: Finding) -> bool:
    """Return whether the loss is at fault, and no right answers can be counted beside it.

    That a copy learns could then be seen in the loss alone.

    Arguments:
        subject: model, data and loss.
        fault: a finding.
    """
    return fault.cause is Cause.ANSWERS_UNFIT and solved(subject) is None


def solved_share(calls: Sequence[LossCall]) -> float | None:
    """Return the part of what there is to gain over a constant answer that the answers gain.

    In right classes, or in squared error. None for losses of another kind.

    Arguments:
        calls: the same call of the loss on several batches.
    """
    name, axis = calls[0].name, calls[0].class_axis
    if any(call.answers.shape != call.targets.shape and not call.indexed for call in calls):
        return None
    answers = [call.answers.detach() for call in calls]
    if calls[0].indexed or name in OF_CLASSES:
        picked = [a.argmax(axis) for a in answers]
        truth = [c.targets if c.indexed else c.targets.argmax(axis) for c in calls]
        counts = [
            c.where() if c.indexed else torch.ones_like(t) > 0
            for c, t in zip(calls, truth, strict=True)
        ]
    elif name in OF_PROBABILITIES:
        middle = 0.5 if all(bool(((a >= 0) & (a <= 1)).all()) for a in answers) else 0.0
        picked, truth = [a > middle for a in answers], [c.targets > 0.5 for c in calls]
        counts = [c.where() for c in calls]
    elif name in OF_VALUES:
        errors = torch.cat(
            [(a - c.targets)[c.where()] for a, c in zip(answers, calls, strict=True)]
        ).double()
        spread = torch.cat([c.targets[c.where()] for c in calls]).double().var()
        return 1 - float(errors.square().mean() / spread) if float(spread) > 0 else None
    else:
        return None
    right = (
        torch.cat([(p == t)[c] for p, t, c in zip(picked, truth, counts, strict=True)])
        .double()
        .mean()
    )
    every = torch.cat([t[c] for t, c in zip(truth, counts, strict=True)]).long()
    most = float(every.bincount().max()) / len(every) if len(every) else 1.0
    return (float(right) - most) / (1 - most) if most < 1 else None
