"""Checks of the loss by its derivatives: its sign, and labels other than those that it takes."""

import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from throughtime.doctor.answers import SOLVED, solved
from throughtime.doctor.last_functions import SAME_VALUES
from throughtime.doctor.loss_calls import (
    OF_CLASSES,
    OF_PROBABILITIES,
    OF_SIGNS,
    OF_VALUES,
    LossCall,
    loss_calls,
)
from throughtime.doctor.subject import Subject, redraw
from throughtime.reports.numbers import in_percent
from throughtime.results.diagnosis import Cause, Finding

_BATCHES = 2  # on which derivatives are taken
_NORMALISED = 1e-3  # error of the sum of probabilities, in their logarithm
_SHOWN = 4  # labels in a sentence
_MORE = (*OF_SIGNS, "cosine_similarity", "gather", "getitem", "take_along_dim")
_PICKS = ("gather", "getitem", "take_along_dim")
_DISTANCES = (*OF_CLASSES, *OF_VALUES[:4], *OF_PROBABILITIES, *OF_SIGNS)
# between answers and the value that their product with a label takes part in
_OF_MARGINS = {
    *("Add", "Clamp", "ClampMin", "Div", "Exp", "Log", "Log1P", "LogSigmoid", "Maximum", "Mean"),
    *("Mul", "Neg", "Pow", "Relu", "Rsub", "Sigmoid", "Softplus", "Sub", "Sum", "Threshold"),
}
_FLAT = {"Clamp", "ClampMin", "Exp", "LogSigmoid", "Maximum", "Relu", "Softplus", "Threshold"}
_EVEN = {"Abs", "Pow", "LinalgVectorNorm", "Norm", "Mul"}
_MONOTONE = {"Add", "Exp", "Neg", "Sub", "Sum", "Mean"}


def check_direction(subject: Subject) -> Finding | None:
    """Check that the loss falls as answers get better, by its derivatives with fresh weights.

    Arguments:
        subject: model, data and loss.
    """
    runs: list[tuple[Tensor, list[LossCall]]] = []
    for seed, batch in enumerate(subject.held_out[:_BATCHES]):
        model = subject.copy(training=True)
        redraw(model, seed)
        loss, calls = loss_calls(subject, model, batch, seed, _MORE)
        if not loss.requires_grad:
            return None
        runs.append((loss, calls))
    if len({tuple(call.name for call in calls) for _, calls in runs}) != 1:
        return None
    of_calls = [
        [(loss, calls[k]) for loss, calls in runs if calls[k].answers.requires_grad]
        for k in range(len(runs[0][1]))
    ]
    for calls in of_calls:
        found = _labels(calls) if calls else None
        if found is not None:
            right = solved(subject)
            return _finding(*found, "warning" if right is not None and right > SOLVED else "fault")
    found = _turned(runs)
    return None if found is None else _finding(*found, "fault")


_Run = tuple[Tensor, LossCall]  # the loss, and a call within it


def _labels(calls: Sequence[_Run]) -> tuple[str, str] | None:
    """Return the statement and the remedy where the labels of a call are not those of its loss."""
    name = calls[0][1].name
    if name not in (*OF_PROBABILITIES, *OF_SIGNS, "mul"):
        return None
    slopes = [_slope(loss, call.answers) for loss, call in calls]
    targets = [call.targets.detach() for _, call in calls]
    if name in OF_PROBABILITIES:
        counted = [
            t[(s != 0) & t.isfinite()].double()
            for t, s in zip(targets, slopes, strict=True)
            if t.shape == s.shape
        ]
        labels = torch.cat(counted).unique() if counted else torch.zeros(0)
        if not len(labels) or (float(labels[0]) >= 0 and float(labels[-1]) <= 1):
            return None
        return (
            f"{name} takes labels from 0 to 1, and the labels are {_listed(labels)}: for a label "
            "beyond 1 or below 0 it falls without end as the answer grows or falls.",
            f"Use labels 0 and 1: {_scaled(labels)}.",
        )
    labels = torch.cat([t.flatten().double() for t in targets]).unique()
    if len(labels) != 2 or not bool((labels == 0).any()):
        return None
    label = float(labels.abs().max())
    if name == "mul":
        same = all(c.answers.shape == c.targets.shape for _, c in calls)
        if not same or not all(map(_of_margin, calls)):
            return None
        of_zero = torch.cat([s[t == 0] for t, s in zip(targets, slopes, strict=True)])
        of_one = torch.cat([s[t != 0] for t, s in zip(targets, slopes, strict=True)])
        signs = of_one[of_one != 0].sign().unique()
        if bool(of_zero.any()) or len(signs) != 1:
            return None
    share = torch.cat([(t == 0).double().flatten() for t in targets]).mean()
    what = "The loss multiplies answers and labels, as a hinge does, and" if name == "mul" else name
    takes = "the labels are" if name == "mul" else "takes labels -1 and 1, and the labels are"
    return (
        f"{what} {takes} 0 and {label:g}: a label of 0 ({in_percent(float(share))} of them) has "
        f"no other best answer than a label of {label:g}.",
        f"Use labels -1 and 1: {'2 * labels - 1' if label == 1 else f'labels / {label / 2:g} - 1'}"
        ", as floats.",
    )


def _slope(loss: Tensor, tensor: Tensor | None) -> Tensor:
    """Return the derivative of the loss by a tensor within it; zeros where there is none."""
    assert tensor is not None
    (slope,) = torch.autograd.grad(loss, tensor, retain_graph=True, allow_unused=True)
    return torch.zeros_like(tensor) if slope is None else slope.detach()


def _of_margin(run: _Run) -> bool:
    """Return whether the loss takes a product through a function that is flat on one side alone."""
    loss, call = run
    assert call.result is not None
    names = _between(loss, call.result)
    return bool(names & _FLAT) and names <= _OF_MARGINS | SAME_VALUES


def _between(loss: Tensor, inner: Tensor) -> set[str]:
    """Return the names of the functions on the ways from a tensor to the loss."""
    end, found = inner.grad_fn, set[str]()
    leads: dict[Any, bool] = {None: False, end: True}
    stack: list[Any] = [loss.grad_fn]
    while stack:
        node = stack[-1]
        if node in leads:
            stack.pop()
            continue
        before = [one for one, _ in node.next_functions]
        open_ = [one for one in before if one not in leads]
        if open_:
            stack += open_
            continue
        leads[node] = any(leads[one] for one in before)
        if leads[node]:
            found.add(_name(node))
    return found


def _name(node: Any) -> str:
    return re.sub(r"Backward\d*$", "", node.name())


def _turned(runs: Sequence[tuple[Tensor, list[LossCall]]]) -> tuple[str, str] | None:
    """Return the statement and the remedy where the loss falls as answers get worse."""
    bad: tuple[str, str] | None = None
    sound = False
    for k in range(len(runs[0][1])):
        calls = [(loss, calls[k]) for loss, calls in runs]
        found = [
            _sign(loss, call, every) for (loss, call), (_, every) in zip(calls, runs, strict=True)
        ]
        signs = {sign for sign, _, _ in found if sign is not None}
        if not signs:
            continue
        if signs == {-1}:
            words = found[0][1:]
            if words[0].startswith("A policy"):
                return words
            bad = bad or words
        else:
            sound = True
    return None if sound else bad


_NEUTRAL = (None, "", "")


def _sign(loss: Tensor, call: LossCall, every: Sequence[LossCall]) -> tuple[int | None, str, str]:
    """Return 1 where the loss falls as answers get better, -1 where it rises, and 0 for both.

    Arguments:
        loss: the loss.
        call: a call within it.
        every: all calls.

    Returns:
        The sign, None where the call is no sign of either; the statement and the remedy for -1.
    """
    name = call.name
    if name in _DISTANCES or name == "cosine_similarity":
        if not bool((call.targets != call.targets.flatten()[0]).any()):
            return _NEUTRAL  # as the labels of an adversary
        slope = _slope(loss, call.result)
        similar = name == "cosine_similarity"
        if not similar:
            return (
                _one_sign(slope),
                f"The loss falls as {name} of answers and targets rises: it is taken with a minus, "
                "and has no lower bound.",
                f"Take the minus before {name} away.",
            )
        return (
            _one_sign(-slope),
            "The loss rises with the cosine similarity of answers and targets: answers that point "
            "the other way are its best.",
            "Use 1 - F.cosine_similarity(answers, targets).mean().",
        )
    if name in ("sub", "rsub"):
        apart = (call.answers - call.targets).detach()
        slope = _slope(loss, call.answers)
        if slope.shape != apart.shape or call.result is None:
            return _NEUTRAL
        if not _between(loss, call.result) & _EVEN:
            return _NEUTRAL
        return (
            _one_sign(slope * apart),
            "The loss falls as answers move away from their targets: its sign is turned.",
            "Turn the sign of the difference's square or size in the loss.",
        )
    if name in _PICKS and _normalised(call.answers):
        assert call.result is not None
        slope = _slope(loss, call.result)
        if any(_leads(c, call) for c in every if c.name == "mul"):
            return _NEUTRAL  # see the product
        return (
            _one_sign(-slope),
            "The loss falls as the log-probabilities of the targets' classes fall: a minus is "
            "missing, and it has no lower bound.",
            "Put a minus before it, or use F.cross_entropy of the logits.",
        )
    if name == "mul":
        return _of_product(loss, call, every)
    return _NEUTRAL


def _of_product(
    loss: Tensor, call: LossCall, every: Sequence[LossCall]
) -> tuple[int | None, str, str]:
    """Return the sign of a product of log-probabilities and values, such as a policy's."""
    values = call.targets.detach()
    picks = [c for c in every if c.name in _PICKS and _normalised(c.answers) and _leads(call, c)]
    of = picks[0].result if picks else call.answers
    assert of is not None
    if not picks and not _logarithm(call.answers):
        return _NEUTRAL
    slope = _slope(loss, of)
    if slope.shape != values.shape:
        if slope.numel() == values.numel():
            values = values.reshape(slope.shape)
        elif values.dim() == 1 and len(values) == len(slope):
            values = values.reshape(-1, *[1] * (slope.dim() - 1))
        else:
            return _NEUTRAL
    sign = _one_sign(-slope * values)
    if not picks:
        return (
            sign,
            "The loss falls as the log-probabilities of the targets fall: a minus is missing, and "
            "it has no lower bound.",
            "Put a minus before the product of targets and log-probabilities.",
        )
    return (
        sign,
        "A policy's loss lacks its minus: it falls as the log-probability of what has a value "
        "above 0 falls, and has no lower bound.",
        "Put a minus before the product: -(log_prob * value).mean().",
    )


def _one_sign(values: Tensor) -> int | None:
    """Return 1 or -1 where all values other than 0 have this sign, 0 where they differ."""
    signs = values[values != 0].sign().unique().tolist()
    return None if not signs else int(signs[0]) if len(signs) == 1 else 0


def _normalised(answers: Tensor) -> bool:
    """Return whether the numbers are log-probabilities, which sum to 1 over some axis."""
    values = answers.detach()
    if not values.is_floating_point() or not values.dim() or bool((values > _NORMALISED).any()):
        return False
    axes = [a for a in range(values.dim()) if values.shape[a] > 1]
    return any(float(values.logsumexp(a).abs().max()) < _NORMALISED for a in axes)


def _logarithm(answers: Tensor) -> bool:
    """Return whether a tensor is the logarithm of a probability, but for views."""
    if bool((answers.detach() > 0).any()):
        return False
    if _normalised(answers):
        return True
    names = {_name(node) for node in _back(answers, SAME_VALUES)}
    return bool(names & {"Log", "LogSigmoid", "LogSoftmax"})


def _leads(product: LossCall, pick: LossCall) -> bool:
    """Return whether picked log-probabilities, or their ratio to others, are in a product."""
    assert pick.result is not None
    return pick.result.grad_fn in _back(product.answers, SAME_VALUES | _MONOTONE)


def _back(tensor: Tensor, through: set[str]) -> list[Any]:
    """List the nodes of a tensor's graph back to the first that are not among some functions."""
    left, found = [tensor.grad_fn], []
    while left:
        node = left.pop()
        if node is None or node in found:
            continue
        found.append(node)
        if _name(node) in through:
            left += [one for one, _ in node.next_functions]
    return found


def _listed(labels: Tensor) -> str:
    values = [f"{value:g}" for value in labels.tolist()]
    if len(values) > _SHOWN:
        return f"{values[0]} to {values[-1]}"
    return f"{', '.join(values[:-1])} and {values[-1]}" if len(values) > 1 else values[0]


def _scaled(labels: Tensor) -> str:
    low, high = float(labels[0]), float(labels[-1])
    if len(labels) == 2:
        if low == 0:
            return f"labels / {high:g}"
        shift = f"labels {'-' if low > 0 else '+'} {abs(low):g}"
        return shift if high - low == 1 else f"({shift}) / {high - low:g}"
    return f"labels / {high:g}" if low >= 0 else "scale them into this range"


def _finding(statement: str, remedy: str, severity: Any) -> Finding:
    return Finding(
        cause=Cause.ANSWERS_UNFIT,
        severity=severity,
        certainty="proved",
        statement=statement,
        effect=None,
        effect_name="",
        threshold=None,
        measured_on="derivatives of the loss by the answers, with fresh weights",
        remedy=remedy,
    )
