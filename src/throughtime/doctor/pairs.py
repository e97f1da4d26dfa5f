"""Checks that each answer meets its own target, and is made of its own step."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from throughtime.doctor.data_pairs import RAISED
from throughtime.doctor.intervals import exactly
from throughtime.doctor.loss_calls import ARITHMETIC, LossCall, loss_calls
from throughtime.doctor.sample_axes import SampleAxes, replace_sample
from throughtime.doctor.subject import Subject, batch_tensors
from throughtime.foreign.sites import find_recurrent, kept_outputs
from throughtime.reports.numbers import in_percent
from throughtime.results.diagnosis import Cause, Finding

_SAME = 1e-5  # a change below this part of the largest value is the arithmetic's
_PAIRS, _TRIED = 3, 12  # of samples: with other targets, and in all
_APART = 0.5  # of a sample's targets, that meet other answers
_PLACES, _CLASSES = 3, 4  # of answers, that are followed back


def check_pairs(subject: Subject, axes: SampleAxes) -> Finding | None:
    """Check that each sample's targets meet its own answers.

    One sample is replaced by another of the same shape, inputs and targets. The targets that change
    must be among those whose answers change. Where they are not, the answers are elsewhere: a
    broadcast, a reshape or another order of axes lies between.

    Arguments:
        subject: model, data and loss.
        axes: axis of the samples in each tensor.
    """
    if axes.count < 3:
        return None
    batch = subject.held_out[0]
    before = loss_calls(subject, subject.copy(), batch)[1]
    marks: dict[int, list[tuple[Tensor, Tensor]]] = {}
    first = [(0, source) for source in range(1, min(axes.count, _TRIED + 1))]
    # sorted by length, neighbours may be equally long
    for target, source in first + [(k, k + 1) for k in range(1, min(axes.count - 1, _TRIED))]:
        changed = replace_whole_sample(batch, axes, target, source)
        try:
            after = loss_calls(subject, subject.copy(), changed)[1]
        except RAISED:  # of packed sequences the order and the number of targets may be fixed
            continue
        if [_shape(call) for call in before] != [_shape(call) for call in after]:
            continue
        for k, (one, other) in enumerate(zip(before, after, strict=True)):
            found = _changed(one, other)
            if found is not None:
                marks.setdefault(k, []).append(found)
        if marks and min(map(len, marks.values())) >= _PAIRS:
            break
    for k, found in marks.items():
        # together: of answers that are sorted, others change each time
        of_answers, of_targets = (torch.stack(part).any(0) for part in zip(*found, strict=True))
        both = (of_answers & of_targets).sum()
        targets, answers = (float(1 - both / part.sum()) for part in (of_targets, of_answers))
        meant = before[k].name in ARITHMETIC and _outer(before[k])
        if not meant and targets >= _APART and answers >= _APART:
            return _mispaired(before[k], targets, axes.count)
    return None


def replace_whole_sample(batch: Any, axes: SampleAxes, target: int, source: int) -> Any:
    """Return a batch in which one sample is another's copy, in every tensor that holds samples."""
    for k, tensor in enumerate(batch_tensors(batch)):
        axis = axes.axes[k]
        if axis is not None and tensor.shape[axis] == axes.count:
            batch = replace_sample(batch, axes, k, target, source)
    return batch


def _outer(call: LossCall) -> bool:
    """Return whether all pairs of samples are meant: of (n, 1) and (1, n)."""
    return call.answers.dim() == call.targets.dim() and call.answers.shape != call.targets.shape


def _shape(call: LossCall) -> Any:
    return call.name, call.answers.shape, call.targets.shape


def _changed(one: LossCall, other: LossCall) -> tuple[Tensor, Tensor] | None:
    """Return marks of changed answers and targets, for every pair; None where there are none."""
    before, after = one.answers.detach().double(), other.answers.detach().double()
    scale = before.abs().max().clamp_min(1e-12)
    answers, targets = one.pairs((after - before).abs() > _SAME * scale, _unequal(one, other))
    return (answers, targets) if bool(answers.any()) and bool(targets.any()) else None


def _unequal(one: LossCall, other: LossCall) -> Tensor:
    before, after = one.targets.detach(), other.targets.detach()
    return (before != after) & ~(before.isnan() & after.isnan())


def _mispaired(call: LossCall, share: float, count: int) -> Finding:
    answers, targets = tuple(call.answers.shape), tuple(call.targets.shape)
    name = ARITHMETIC.get(call.name, f"F.{call.name}")
    spread = not call.indexed and answers != targets
    if spread:
        together = tuple(torch.broadcast_shapes(call.answers.shape, call.targets.shape))
        statement = (
            f"{name} gets answers {answers} and targets {targets}, and spreads them to {together}: "
            "each answer meets the targets of all samples, and the best answer is their mean."
        )
        one = len(answers) > len(targets)
        remedy = (
            f"Give both one shape: answers.squeeze(-1) of {answers}, or targets.unsqueeze(-1)."
            if one
            else f"Give both one shape: targets.squeeze(-1) of {targets}, or answers.unsqueeze(-1)."
        )
    else:
        statement = (
            f"{in_percent(share)} of a sample's targets or more meet answers of other samples in "
            f"{name.replace('The', 'the')} (answers {answers}, targets {targets}): the axes are "
            "in another order."
        )
        remedy = (
            "Bring the axes of answers and targets into one order before the loss: transpose or "
            "permute, never view or reshape, moves axes."
        )
    return Finding(
        cause=Cause.TARGETS_MISPAIRED,
        severity="fault",
        certainty="proved",
        statement=statement,
        effect=exactly(share),
        effect_name="share of a sample's targets that meet other samples' answers",
        threshold=_APART,
        measured_on=f"one batch of {count} samples",
        remedy=remedy,
    )


def check_classes(subject: Subject, layer: str) -> Finding | None:
    """Check that the classes of one answer come from one and the same step.

    The gradient of the answer's numbers shows the rows of the layer's output that each comes from.
    Where each comes from a single row, and these differ, a view or reshape has taken steps for
    classes.

    Arguments:
        subject: model, data and loss.
        layer: name of the recurrent layer, which is called once.
    """
    model = subject.copy()
    _, module = find_recurrent(model, layer)
    with kept_outputs(module) as results:
        calls = loss_calls(subject, model, subject.held_out[0])[1]
    output = _output(results)
    if output is None or not output.requires_grad:
        return None
    for call in calls:
        classes = call.answers.shape[call.class_axis] if call.indexed else 1
        rows = output.numel() // output.shape[-1]
        if classes < 2 or call.answers.numel() != classes * rows:
            continue  # no answer at every step: classes may be positions, as of a pointer
        answers = call.answers.movedim(call.class_axis, -1).reshape(-1, classes)
        counts = call.where().flatten().nonzero()[:, 0]
        for place in counts[torch.linspace(0, len(counts) - 1, _PLACES).long()].tolist():
            picked = torch.linspace(0, classes - 1, min(classes, _CLASSES)).long().tolist()
            rows = [_rows(answers[place, k], output) for k in picked]
            if all(len(found) == 1 for found in rows) and len(set(map(tuple, rows))) > 1:
                return _steps_for_classes(call, layer, classes)
    return None


def _output(results: Sequence[Any]) -> Tensor | None:
    if len(results) != 1:
        return None
    first = results[0][0] if type(results[0]) is tuple else results[0]
    output = first.data if isinstance(first, PackedSequence) else first
    return output if isinstance(output, Tensor) and output.dim() >= 2 else None


def _rows(number: Tensor, output: Tensor) -> list[int]:
    """List the rows of the layer's output that a number depends on directly."""
    (gradient,) = torch.autograd.grad(number, output, retain_graph=True, allow_unused=True)
    if gradient is None:
        return []
    return (gradient != 0).any(-1).flatten().nonzero()[:, 0].tolist()


def _steps_for_classes(call: LossCall, layer: str, classes: int) -> Finding:
    return Finding(
        cause=Cause.TARGETS_MISPAIRED,
        severity="fault",
        certainty="proved",
        statement=f"The {classes} classes of one answer in F.{call.name} are numbers from several "
        f"steps or sequences of {layer!r}: axis {call.class_axis} of the answers "
        f"{tuple(call.answers.shape)} does not hold the classes.",
        effect=None,
        effect_name="",
        threshold=None,
        measured_on=f"layer {layer!r}, one batch",
        remedy=f"Move the axis of the classes to axis {call.class_axis} with transpose or permute; "
        "view and reshape cut the numbers anew.",
    )
