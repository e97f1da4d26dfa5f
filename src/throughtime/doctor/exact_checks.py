"""Exact checks: one sample, step or batch is replaced, and what changes is compared."""

import dataclasses
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from throughtime.doctor.intervals import difference, estimate, exactly
from throughtime.doctor.sample_axes import SampleAxes, change_tensor, replace_sample
from throughtime.doctor.subject import Subject, batch_tensors
from throughtime.foreign.recording import Recording, record
from throughtime.foreign.sites import kept_outputs, site_of
from throughtime.instruments.gradient_flow import GradientFlow
from throughtime.results.diagnosis import Cause, Finding

_PAIRS = 2  # of samples, of each tensor, that are tried
_MOST_BATCHES = 16
_SAME = 1e-5  # a change below this part of the largest value is the arithmetic's


@dataclasses.dataclass(frozen=True, eq=False)
class _View:
    """Inputs of the recurrent layer, and the answer of the model."""

    recording: Recording
    answer: Tensor | None


def view(subject: Subject, layer: str, batch: Any) -> _View:
    """Run a fresh copy on a batch, the same random numbers each time."""
    model = subject.copy()
    torch.manual_seed(0)
    with kept_outputs(model) as outputs:
        recording = record(model, lambda: subject.loss(model, batch), layer=layer, level=0)
    answers: list[Tensor] = []
    for output in outputs:
        tensors = [t for t in pytree.tree_leaves(output) if isinstance(t, Tensor)]
        answers.extend(t.detach() for t in tensors[:1] if t.is_floating_point())
    return _View(recording, answers[-1] if len(answers) == 1 else None)


def check_samples(subject: Subject, layer: str, axes: SampleAxes) -> Finding | None:
    """Check that each sample is a row of its own in the layer and in the answers.

    One sample is replaced by a copy of another. If the layer's inputs then change at one time step
    of many rows, it runs over samples instead of time. If its inputs or the model's answers change
    in other samples' rows, samples are mixed.
    """
    batch = subject.held_out[0]
    if axes.count < 2:
        return None
    first = view(subject, layer, batch)
    for k, tensor in enumerate(batch_tensors(batch)):
        if axes.axes[k] is None or tensor.dim() < 2:
            continue
        # of samples that are answered alike nothing may show
        for source in _unlike(tensor, axes.axes[k], first.answer, axes.count)[:_PAIRS]:
            second = view(subject, layer, replace_sample(batch, axes, k, 0, source))
            found = _compare(first, second, axes.count, 0)
            if found is not None:
                return _finding(*found, first.recording, axes)
    return None


def check_state(subject: Subject, layer: str) -> Finding | None:
    """Check that no batch starts from the state of the one before, unless that lowers the loss."""
    held_out = [] if subject.held_out[0] is subject.training[0] else subject.held_out
    batches = [*subject.training, *held_out][-_MOST_BATCHES:]  # in the user's order
    carried: list[float] = []
    fresh: list[float] = []
    model = subject.copy()
    with torch.no_grad():
        torch.manual_seed(0)
        once = float(subject.loss(model, batches[0]))
        torch.manual_seed(0)
        twice = float(subject.loss(model, batches[0]))
        if abs(once - twice) <= _SAME * max(abs(once), 1e-12):
            return None
        model = subject.copy()
        for k, batch in enumerate(batches):
            torch.manual_seed(k)
            carried.append(float(subject.loss(model, batch)))
            torch.manual_seed(k)
            fresh.append(float(subject.loss(subject.copy(), batch)))
    gain = difference(carried[1:], fresh[1:]) if len(batches) > 2 else exactly(0.0)
    if gain.high < 0:
        return None  # the batches follow each other, and the state is worth having
    return Finding(
        cause=Cause.STATE_LEAK,
        severity="fault",
        certainty="proved",
        statement=f"The same batch gives another loss the second time ({once:.4g}, then "
        f"{twice:.4g}), with the same random numbers: the model keeps a state between calls, and "
        "starting from it does not lower the loss of the batches that follow.",
        effect=exactly(abs(once - twice)),
        effect_name="change of the loss on a second call",
        threshold=0.0,
        measured_on=f"layer {layer!r}, {len(batches)} batches",
        remedy="Start each batch from a fresh state: drop the stored state at the start of "
        "forward, or pass it in and out explicitly where batches do follow each other.",
    )


def reads_all_at_once(subject: Subject, layer: str, answered: Tensor) -> bool:
    """Return whether one answer a sequence is read from many steps: by a mean, attention ...

    Then a predictor of recent inputs has every input at one of the steps. Its success is no
    evidence about the age of the inputs that the answer needs.

    Arguments:
        answered: (time, batch) True at the steps of the first held-out batch that the loss reads.
    """
    if int(answered.sum(0).max()) <= 1:
        return False
    answer = view(subject, layer, subject.held_out[0]).answer
    time, batch = answered.shape
    return answer is None or tuple(answer.shape[:2]) not in ((time, batch), (batch, time))


def check_future(
    subject: Subject, layer: str, axes: SampleAxes, answered: Tensor
) -> Finding | None:
    """Check that answers at early steps do not change with later inputs, for forward layers."""
    batch = subject.held_out[0]
    model = subject.copy()
    if site_of(dict(model.named_modules())[layer]).directions > 1 or int(answered.sum()) < 2:
        return None
    time = len(answered)
    middle = int(answered.nonzero()[:, 0].double().median().round())
    if not 0 < middle < time:
        return None
    first = view(subject, layer, batch)
    if first.answer is None:
        return None
    for k, tensor in enumerate(batch_tensors(batch)):
        axis = axes.axes[k]
        # the first tensor with an axis of time is the input
        if axis is None or tensor.dim() < 2 or tensor.shape[1 - axis] != time:
            continue
        second = view(subject, layer, _late_replaced(batch, k, axis, middle))
        if second.answer is None or second.answer.shape != first.answer.shape:
            return None
        early = _time_first(first.answer, second.answer, time, axes.count)
        if early is None or float(early[middle:].max()) == 0:
            return None
        changed = early[:middle].amax(dim=tuple(range(1, early.dim())))
        if float(changed.max()) <= _SAME * float(early[middle:].max()):
            return None
        return Finding(
            cause=Cause.STATE_LEAK,
            severity="fault",
            certainty="proved",
            statement=f"Answers before step {middle} change when inputs from step {middle} on are "
            "changed, although the recurrent layer runs forwards only: they depend on the future.",
            effect=exactly(float(changed.max() / early[middle:].max())),
            effect_name="change of early answers by late inputs, relative to that of late answers",
            threshold=_SAME,
            measured_on=f"layer {layer!r}, one batch",
            remedy="Look for what mixes time steps around the recurrent layer: a normalisation, a "
            "convolution or an average over time, a flip, or targets that are shifted.",
        )
    return None


def _unlike(tensor: Tensor, axis: int | None, answer: Tensor | None, count: int) -> list[int]:
    """List the samples that differ from the first one, by the difference of their answers."""
    assert axis is not None
    parts = tensor.unbind(axis)
    found = [k for k in range(1, len(parts)) if not torch.equal(parts[0], parts[k])]
    rows = [] if answer is None else _by_sample(answer, count)
    if rows:
        apart = (rows[0] - rows[0][:1]).abs().amax(1).tolist()
        found.sort(key=lambda k: -apart[k])
    return found


def _changed(before: Tensor, after: Tensor) -> Tensor:
    """Return the largest change at each (first, second axis), relative to the largest value."""
    change = (after.double() - before.double()).abs()
    change = change.flatten(2).amax(2) if change.dim() > 2 else change
    return change / before.double().abs().max().clamp_min(1e-12)


def _compare(first: _View, second: _View, count: int, target: int) -> tuple[str, float] | None:
    a, b = first.recording.inputs, second.recording.inputs
    if a.shape == b.shape:
        changed = _changed(a, b) > _SAME  # (time, batch) of the layer
        rows, times = int(changed.any(0).sum()), int(changed.any(1).sum())
        if rows > 1 and times == 1:
            return "swapped", float(rows)
        if rows > 1:
            return "mixed before", float(rows)
    answer, other = first.answer, second.answer
    if answer is None or other is None or answer.shape != other.shape:
        return None
    spread = (other.double() - answer.double()).abs()
    scale = float(spread.max())
    if scale <= _SAME * float(answer.double().abs().max().clamp_min(1e-12)):
        return None
    worst: list[float] = []
    for rows in _by_sample(spread, count):
        elsewhere = torch.cat([rows[:target], rows[target + 1 :]])
        worst.append(float(elsewhere.max()) / scale)
    if worst and min(worst) > 1e-3:
        return "mixed after", min(worst)
    return None


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


def _finding(kind: str, size: float, recording: Recording, axes: SampleAxes) -> Finding:
    where = f"layer {recording.layer!r}, one batch of {axes.count} samples"
    shape = f"{recording.time} steps of {recording.batch} sequences"
    if kind == "swapped":
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
    before = kind == "mixed before"
    return Finding(
        cause=Cause.STATE_LEAK,
        severity="fault",
        certainty="proved",
        statement=(
            f"Replacing one sample changes {size:.0f} of the layer's sequences at several steps"
            if before
            else "Replacing one sample changes the answers of others, by "
            f"{100 * size:.2g} % of its own change or more"
        )
        + ": samples of a batch influence each other.",
        effect=exactly(size),
        effect_name="sequences that one sample is part of"
        if before
        else "change of other samples' answers, relative to its own",
        threshold=1.0 if before else 1e-3,
        measured_on=where,
        remedy="Look for an operation over the batch axis "
        + ("before the recurrent layer" if before else "after or around the recurrent layer")
        + ": a reshape or view that crosses axes, a softmax or normalisation over the wrong one.",
    )


def _late_replaced(batch: Any, tensor: int, axis: int, start: int) -> Any:
    """Return a batch whose inputs from a step on are the next sample's."""

    def change(leaf: Tensor) -> Tensor:
        grid = leaf.transpose(0, axis)  # (samples, time, ...)
        changed = grid.clone()
        changed[:, start:] = grid.roll(1, 0)[:, start:]
        return changed.transpose(0, axis).contiguous()

    return change_tensor(batch, tensor, change)


def _time_first(first: Tensor, second: Tensor, time: int, count: int) -> Tensor | None:
    """Return |second - first| as (time, ...), where one reading of the answer has such an axis."""
    spread = (second.double() - first.double()).abs()
    if spread.dim() < 2:
        return None
    if spread.shape[0] == time and spread.shape[1] == count:
        return spread
    if spread.shape[0] == count and spread.shape[1] == time:
        return spread.transpose(0, 1)
    return None


_PADDED_SHARE = 0.2  # of the sequences, that end before the last step
_ELSEWHERE = 0.01  # of the steps before the ends, that look like padding


def true_lengths(recording: Recording) -> tuple[Tensor, str] | None:
    """Return the lengths of sequences that are padded on the right, and their origin in words.

    The model may pass lengths to the layer. Otherwise padding is a run of the same vector at the
    end of many sequences, of unequal length, which hardly occurs before.

    Arguments:
        recording: recording of the bottom level, whose inputs are the data's.
    """
    if recording.direction != 0:
        return None
    if recording.lengths is not None:
        lengths = recording.lengths.cpu()
        return (
            (lengths, "lengths passed to the layer")
            if bool((lengths < recording.time).any())
            else None
        )
    like = _like_padding(recording.inputs)
    lengths = _before_padding(like)
    padded = lengths < recording.time
    if float(padded.double().mean()) < _PADDED_SHARE or len(lengths.unique()) < 3:
        return None
    if bool((lengths == 0).any()):
        return None
    inside = torch.arange(recording.time)[:, None] < lengths
    if float(like.cpu()[inside].double().mean()) > _ELSEWHERE:
        return None
    return lengths, "the same input vector ends the sequences, at unequal steps"


def check_padding(recording: Recording, flow: GradientFlow) -> Finding | None:
    """Check that the loss reads no outputs beyond the sequences' ends.

    Arguments:
        recording: recording of the bottom level.
        flow: gradient flow of the top level, on the same batch.
    """
    known = true_lengths(recording)
    if known is None:
        return None
    lengths, how = known
    steps = torch.arange(recording.time)[:, None]
    total = flow.answer.sum(0).cpu()
    short = (lengths < recording.time) & (total > 0)  # a rectified read-out may be off for some
    if not bool(short.any()):
        return None
    shares = ((flow.answer.cpu() * (steps >= lengths)).sum(0) / total)[short]
    read = float((shares > 0.5).double().mean())
    if read < 0.5:
        return None
    missed = (recording.time - lengths[short]).double().mean()
    return Finding(
        cause=Cause.PADDING_READ,
        severity="fault",
        certainty="proved",
        statement=f"{100 * read:.0f} % of the {int(short.sum())} sequences that end before step "
        f"{recording.time} are read after their end, on average {float(missed):.0f} steps of "
        "padding later.",
        effect=estimate(shares.tolist()),
        effect_name="share of a short sequence's answer that is read from padding",
        threshold=0.5,
        measured_on=f"layer {recording.layer!r}, one batch of {recording.batch} sequences; {how}",
        remedy="Read the output at each sequence's last valid step: pack the batch "
        "(pack_padded_sequence, enforce_sorted=False) and use h_n, or gather with lengths - 1.",
    )


def lengths_of(x: Tensor) -> Tensor:
    """Return the steps before the padding of each sequence (time, batch, input); at least 1."""
    return _before_padding(_like_padding(x)).clamp_min(1)


def _like_padding(x: Tensor) -> Tensor:
    """Return (time, batch): True where an input equals the longest run at a sequence's end."""
    runs = (x == x[-1]).all(-1).flip(0).long().cumprod(0).sum(0)
    return (x == x[-1, int(runs.argmax())]).all(-1)


def _before_padding(like: Tensor) -> Tensor:
    return like.shape[0] - like.flip(0).long().cumprod(0).sum(0).cpu()
