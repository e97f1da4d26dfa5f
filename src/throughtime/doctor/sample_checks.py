"""Exact checks that each sample of a batch has a row of its own, in layer and answers."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from throughtime.doctor.exact_checks import SAME, View, view
from throughtime.doctor.intervals import estimate, exactly
from throughtime.doctor.sample_axes import SampleAxes, cut_batch, replace_sample, sample_axes
from throughtime.doctor.subject import Subject, batch_tensors
from throughtime.foreign.recording import Recording
from throughtime.foreign.sites import kept_outputs
from throughtime.foreign.unchanged import evaluating
from throughtime.reports.numbers import in_percent
from throughtime.results.diagnosis import Cause, Finding

_TESTED = 6  # samples of a batch that are replaced, one at a time
_MIXED = 1e-3  # of a sample's own change: the change of another sample's answer that counts
_CLEAR = 2.0  # times the second largest change: the change that marks the row of a sample


def check_samples(subject: Subject, layer: str | None, axes: SampleAxes) -> Finding | None:
    """Check that each sample is a row of its own in the layer and in the answers.

    Samples are replaced by copies of others, one at a time. A tensor of the batch takes part if the
    layer's inputs change with it. If two samples change the same rows, each at one time step of its
    own, and there are as many steps as samples, the layer runs over samples instead of time. If
    they change the same rows otherwise, or the model's answers change in other samples' rows,
    samples are mixed. Several rows of one sample are in order: the sentences of a document.

    Arguments:
        subject: the model and its data.
        layer: name of the recurrent layer; None to compare answers alone.
        axes: sample axis of each tensor of a batch.
    """
    batch = subject.held_out[0]
    if axes.count < 2:
        return None
    first = view(subject, layer, batch)
    for k, tensor in enumerate(batch_tensors(batch)):
        axis = axes.axes[k]
        if axis is None or tensor.dim() < 2:
            continue
        pairs = _pairs(tensor, axis, first.answer, axes.count)
        changes: list[Tensor] = []
        leaks: list[float] = []
        for target, source in pairs:
            second = view(subject, layer, replace_sample(batch, axes, k, target, source))
            if first.recording is not None and second.recording is not None:
                changed = _changed(first.recording.inputs, second.recording.inputs)
                if changed is None or not bool(changed.any()):
                    continue
                changes.append(changed)
            leaked = _leaked(first, second, axes.count, target)
            if leaked is not None:
                leaks.append(leaked)
        found = _before_the_layer(changes, axes.count)
        if found is not None:
            return _finding(*found, first.recording, axes)
        if leaks and sorted(leaks)[(len(leaks) - 1) // 2] > _MIXED:
            return _finding("after", max(leaks), first.recording, axes)
    return None


def check_order(subject: Subject, layer: str, axes: SampleAxes) -> Finding | None:
    """Check that the loss compares each target with the answer to the same sample.

    The inputs of a sample are replaced: its answer is the row that changes. The targets of a sample
    are replaced: its loss reads the row whose gradient changes. Sequences that are sorted for
    packing, and not put back in order, have two different rows.

    Arguments:
        subject: the model and its data.
        layer: name of the recurrent layer.
        axes: sample axis of each tensor of a batch.
    """
    batch = subject.held_out[0]
    if axes.count < 3:
        return None
    model = subject.copy()
    plain = _answer_and_gradient(subject, model, batch)
    if plain is None or axes.count not in plain[0].shape[:1]:
        return None
    places = [(k, t) for k, t in enumerate(batch_tensors(batch)) if axes.axes[k] is not None]
    # lengths stay: with others the sequences would be sorted in another way
    read = {k for k, _ in places if _is_read(subject, batch, axes, k, plain[0])}
    inputs = [(k, t) for k, t in places if t.dim() >= 2 and k in read]
    targets = [(k, t) for k, t in places if k not in read]
    moved: list[tuple[int, int]] = []
    tested = 0
    for target in _spread(axes.count):
        answered = _row(subject, batch, axes, inputs, target, plain, 0)
        compared = _row(subject, batch, axes, targets, target, plain, 1)
        if answered is None or compared is None:
            continue
        tested += 1
        if answered != target and compared == target:
            moved.append((target, answered))
    if tested < 2 or len(moved) < 2 or len(moved) < tested / 2:
        return None
    target, answered = moved[0]
    return Finding(
        cause=Cause.SAMPLES_MIXED,
        severity="fault",
        certainty="proved",
        statement=f"The order of samples is lost: the answer to sample {target} is in row "
        f"{answered}, but the loss compares row {target} with its target. So for {len(moved)} of "
        f"{tested} samples that were tried.",
        effect=exactly(len(moved) / tested, tested),
        effect_name="share of samples whose answer is in another row",
        threshold=0.5,
        measured_on=f"layer {layer!r}, one batch of {axes.count} samples",
        remedy="Put the answers back in order: answers[order.argsort()] where order sorted the "
        "sequences, or pack_padded_sequence(..., enforce_sorted=False), which does so itself.",
    )


def needs_company(subject: Subject, model: nn.Module) -> bool:
    """Return whether a trained copy does worse on single samples than on their batch."""
    axes = sample_axes([*subject.training, *subject.held_out])
    if axes is None:
        return False
    batch = subject.held_out[0]
    try:
        with evaluating(model):
            together = float(subject.loss(model, batch))
            alone = estimate(
                [
                    float(subject.loss(model, cut_batch(batch, axes, k, k + 1)))
                    for k in range(axes.count)
                ]
            )
    except Exception:  # noqa: BLE001 a model for one size of batch raises what it likes
        return True
    return alone.low > together


def _spread(count: int) -> list[int]:
    """List samples from the first to the last, at even distances."""
    tested = min(count, _TESTED)
    return sorted({round(k * (count - 1) / max(1, tested - 1)) for k in range(tested)})


def _pairs(tensor: Tensor, axis: int, answer: Tensor | None, count: int) -> list[tuple[int, int]]:
    """List samples with another each that differs from it, the one that is answered most unlike."""
    parts = tensor.unbind(axis)
    rows = [] if answer is None else _by_sample(answer.double(), count)
    pairs: list[tuple[int, int]] = []
    for target in _spread(count):
        others = [k for k in range(count) if not torch.equal(parts[k], parts[target])]
        if not others:
            continue
        if rows:  # of samples that are answered alike nothing may show
            apart = (rows[0] - rows[0][[target]]).abs().amax(1).tolist()
            others.sort(key=lambda k: -apart[k])
        pairs.append((target, others[0]))
    return pairs


def _changed(before: Tensor, after: Tensor) -> Tensor | None:
    """Return (time, batch): True where an input of the layer has changed."""
    if before.shape != after.shape:
        return None
    change = (after.double() - before.double()).abs()
    change = change.flatten(2).amax(2) if change.dim() > 2 else change
    return change > SAME * before.double().abs().max().clamp_min(1e-12)


def _before_the_layer(changes: list[Tensor], count: int) -> tuple[str, float] | None:
    """Return the kind of mixing that the changed inputs of several samples show.

    A layer that runs over the batch has as many steps as there are samples.
    """
    if not changes:
        return None
    rows = torch.stack([changed.any(0) for changed in changes])  # (sample, row)
    times = torch.stack([changed.any(1) for changed in changes])  # (sample, time)
    size = float(rows.sum(1).max())
    if len(changes) > 1 and int(rows.sum(0).max()) < 2:
        return None
    if size < 2:
        return None
    alone = int(times.sum(1).max()) == 1 and int(times.sum(0).max()) == 1
    if alone and times.shape[1] == count:
        return "swapped", size
    return None if len(changes) < 2 else ("before", size)


def _leaked(first: View, second: View, count: int, target: int) -> float | None:
    """Return the largest change of another sample's answer, relative to the sample's own."""
    answer, other = first.answer, second.answer
    if answer is None or other is None or answer.shape != other.shape:
        return None
    spread = (other.double() - answer.double()).abs()
    scale = float(spread.max())
    if scale <= SAME * float(answer.double().abs().max().clamp_min(1e-12)):
        return None
    worst: list[float] = []
    for rows in _by_sample(spread, count):
        # the row that changes most is the sample's own, wherever it is
        own = int(rows.amax(1).argmax())
        elsewhere = torch.cat([rows[:own], rows[own + 1 :]])
        worst.append(float(elsewhere.max()) / scale)
    del target
    return min(worst) if worst else None


def _by_sample(values: Tensor, count: int) -> list[Tensor]:
    """Return every reading of a tensor as (samples, rest)."""
    readings = [
        values.transpose(0, axis).reshape(count, -1)
        for axis in range(min(2, values.dim()))
        if values.shape[axis] == count
    ]
    if not readings and values.dim() and values.shape[0] % count == 0:
        flat = values.reshape(values.shape[0], -1)
        readings = [
            flat.reshape(count, -1),
            flat.reshape(-1, count, flat.shape[1]).transpose(0, 1).reshape(count, -1),
        ]
    return readings


def _answer_and_gradient(
    subject: Subject, model: nn.Module, batch: Any
) -> tuple[Tensor, Tensor] | None:
    """Return the model's answer and the gradient of the loss by it; None without a single one."""
    torch.manual_seed(0)
    with kept_outputs(model) as outputs:
        loss = subject.loss(model, batch)
    if len(outputs) != 1:
        return None
    tensors = [t for t in pytree.tree_leaves(outputs[0]) if isinstance(t, Tensor)]
    floating = [t for t in tensors if t.is_floating_point() and t.requires_grad and t.dim()]
    if not floating or not loss.requires_grad:
        return None
    (gradient,) = torch.autograd.grad(loss, floating[:1], allow_unused=True)
    return None if gradient is None else (floating[0].detach(), gradient)


def _is_read(subject: Subject, batch: Any, axes: SampleAxes, k: int, answer: Tensor) -> bool:
    """Return whether the answer changes with a tensor of the batch."""
    tensor = batch_tensors(batch)[k]
    pairs = _pairs(tensor, axes.axes[k] or 0, None, axes.count)
    for target, source in pairs[:2]:
        changed = _answer_and_gradient(
            subject, subject.copy(), replace_sample(batch, axes, k, target, source)
        )
        if changed is None or changed[0].shape != answer.shape:
            return True
        if not torch.allclose(changed[0], answer, rtol=SAME, atol=0.0, equal_nan=True):
            return True
    return False


def _row(
    subject: Subject,
    batch: Any,
    axes: SampleAxes,
    tensors: list[tuple[int, Tensor]],
    target: int,
    plain: tuple[Tensor, Tensor],
    part: int,
) -> int | None:
    """Return the row of the answer (part 0) or of its gradient (part 1) that changes most.

    None where no row stands out: the sample has no unlike one, or the loss couples all samples.
    """
    changed = batch
    for k, tensor in tensors:
        axis = axes.axes[k]
        assert axis is not None
        parts = tensor.unbind(axis)
        others = [j for j in range(axes.count) if not torch.equal(parts[j], parts[target])]
        if others:
            changed = replace_sample(changed, axes, k, target, others[len(others) // 2])
    found = _answer_and_gradient(subject, subject.copy(), changed)
    if found is None or found[part].shape != plain[part].shape:
        return None
    rows = (found[part].double() - plain[part].double()).abs().reshape(axes.count, -1).amax(1)
    largest, second = rows.topk(2).values.tolist()
    return int(rows.argmax()) if largest > _CLEAR * second and largest > 0 else None


def _finding(kind: str, size: float, recording: Recording | None, axes: SampleAxes) -> Finding:
    where = f"one batch of {axes.count} samples"
    if recording is not None:
        where = f"layer {recording.layer!r}, {where}"
    if kind == "swapped" and recording is not None:
        shape = f"{recording.time} steps of {recording.batch} sequences"
        return Finding(
            cause=Cause.TIME_BATCH_SWAPPED,
            severity="fault",
            certainty="proved",
            statement=f"Replacing one sample changes one time step of {size:.0f} sequences: the "
            f"layer runs over the batch in place of time. Its input has {shape}.",
            effect=exactly(size),
            effect_name="sequences that one sample is part of",
            threshold=1.0,
            measured_on=where,
            remedy="Make batch_first fit the data: batch_first=True for (batch, time, features), "
            "False for (time, batch, features); then read the last step along the time axis.",
        )
    before = kind == "before"
    return Finding(
        cause=Cause.SAMPLES_MIXED,
        severity="fault",
        certainty="proved",
        statement=(
            f"Samples are mixed before the layer: {size:.0f} of its sequences change when one "
            "sample is replaced, and some of them change with another sample too"
            if before
            else "Samples are mixed in the answers: replacing one sample changes those of others, "
            f"by {in_percent(size)} of its own change"
        )
        + ".",
        effect=exactly(size),
        effect_name="sequences that one sample is part of"
        if before
        else "change of other samples' answers, relative to its own",
        threshold=1.0 if before else _MIXED,
        measured_on=where,
        remedy="Look for an operation over the batch axis "
        + ("before the recurrent layer" if before else "after or around the recurrent layer")
        + ": a reshape or view that crosses axes (use transpose), h_n.view(batch, -1) without a "
        "transpose, a softmax or normalisation over the wrong axis.",
    )
