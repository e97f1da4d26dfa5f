"""Checks of what a layer is fed and where it is read, by copies: axes that a view took for others,
ids as numbers, answers that are read before the sequence ends."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from throughtime.doctor.answers import ALL_BUT, solved
from throughtime.doctor.fresh_copies import FreshCopies, in_words
from throughtime.doctor.input_scale import check_ids
from throughtime.doctor.intervals import difference
from throughtime.doctor.padding import true_lengths
from throughtime.doctor.remedies import Condition
from throughtime.doctor.subject import Subject, batch_tensors
from throughtime.engines import Place, Request, Result, run
from throughtime.foreign.recording import Recording
from throughtime.foreign.sites import find_recurrent, run_by, site_of
from throughtime.instruments.gradient_flow import GradientFlow
from throughtime.results.diagnosis import Cause, Finding

_EARLY = 0.5  # of the sequences: so many must be read before their end


def check_fed_and_read(
    copies: FreshCopies,
    recording: Recording,
    flow: GradientFlow,
    losses: Sequence[float],
    where: str,
) -> Finding | None:
    """Check them in turn; where the model leaves nothing to gain, only where it is read.

    Arguments:
        copies: trials of fresh copies.
        recording: recording of the bottom level on the first held-out batch.
        flow: gradient flow of the top level on the same batch.
        losses: held-out losses of the model.
        where: layer and batches, in words.
    """
    early = check_read_early(copies, recording, flow, where)
    if early is not None or (solved(copies.trainer.subject) or 0.0) > ALL_BUT:
        return early
    return check_viewed(copies, recording, losses, where) or check_ids(copies, losses, where)


def check_viewed(
    copies: FreshCopies, recording: Recording, losses: Sequence[float], where: str
) -> Finding | None:
    """Check whether the layer's inputs (B, T, F) are a tensor (B, F, T) of the batch, cut anew.

    A view keeps the order of the numbers, so that a step holds numbers of several steps. A fresh
    copy whose layer gets the tensor transposed learns what one as it is does not.
    """
    shape = viewed_shape(copies.trainer.subject, recording)
    if shape is None:
        return None

    def transposed(request: Request) -> Request:
        x = request.inputs.transpose(0, 1)  # (batch, time, feature)
        moved = x.reshape(x.shape[0], x.shape[2], x.shape[1]).transpose(1, 2)
        return dataclasses.replace(request, inputs=moved.transpose(0, 1).contiguous())

    name = "the inputs transposed, not viewed"
    return _by_copies(
        copies,
        losses,
        where,
        change=lambda condition: _with_run(condition, copies.layer, fed=transposed),
        name=name,
        code="x.transpose(1, 2)  # in place of x.view(...)",
        cause=Cause.TIME_BATCH_SWAPPED,
        statement=f"The inputs {recording.batch, recording.time, shape[1]} of {copies.layer!r} "
        f"are a tensor {shape} of the batch in the same order of numbers: a view or reshape has "
        "cut its rows anew, and each step holds numbers of several steps.",
        remedy="Swap the axes with transpose(1, 2) or permute(0, 2, 1); view and reshape do not.",
    )


def viewed_shape(subject: Subject, recording: Recording) -> tuple[int, ...] | None:
    """Return the shape of a tensor of the batch that the layer gets as a view with swapped axes.

    Arguments:
        subject: model, data and loss.
        recording: recording of the bottom level on the first held-out batch.
    """
    x = recording.inputs.detach().transpose(0, 1)
    count, time, width = x.shape
    if time == width or min(time, width) < 2:
        return None
    for tensor in batch_tensors(subject.held_out[0]):
        if tuple(tensor.shape) != (count, width, time):
            continue
        viewed = tensor.reshape(count, time, width).to(x)
        if torch.equal(viewed, x) and not torch.equal(tensor.transpose(1, 2).to(x), x):
            return tuple(tensor.shape)
    return None


def check_read_early(
    copies: FreshCopies,
    recording: Recording,
    flow: GradientFlow,
    where: str,
) -> Finding | None:
    """Check whether each sequence is read at one step before its end, to its harm.

    A fresh copy that is read at the end learns what one as it is does not. The model's own losses
    do not count: of what it has not seen of its batches it may have memorised the rest.
    """
    read = (flow.answer > 0).cpu()
    time, batch = read.shape
    if len(flow.calls) > 1 or recording.time != time or not bool((read.sum(0) == 1).all()):
        return None
    _, module = find_recurrent(copies.trainer.subject.copy(), copies.layer)
    if site_of(module).directions > 1:
        return None
    known = true_lengths(recording, copies.trainer.subject.held_out[0])
    lengths = recording.valid_lengths() if known is None else known[0]
    at, ends = read.double().argmax(0), lengths.cpu() - 1
    early = float((at < ends).double().mean())
    if early < _EARLY:
        return None
    name = "the last step read"
    return _by_copies(
        copies,
        None,
        where,
        change=lambda condition: _with_run(condition, copies.layer, read=_at_the_end),
        name=name,
        code="out[:, -1]  # of a layer with batch_first=True; or out[rows, lengths - 1]",
        cause=Cause.WRONG_STEP,
        statement=f"Of {batch} sequences, {int((at < ends).sum())} are read before their end, on "
        f"average after {float(at.double().mean()) + 1:.3g} of "
        f"{float(ends.double().mean()) + 1:.3g} steps: no later input changes their answers.",
        remedy="Read each sequence at its last step; look at how the step's number is found.",
    )


def _at_the_end(outputs: Tensor, lengths: Tensor | None) -> Tensor:
    """Return outputs (time, batch, unit) that are those of the last step at every step."""
    if lengths is None:
        return outputs[-1:].expand_as(outputs)
    rows = torch.arange(outputs.shape[1], device=outputs.device)
    return outputs[lengths.to(outputs.device) - 1, rows][None].expand_as(outputs)


def _with_run(
    condition: Condition,
    layer: str,
    fed: Callable[[Request], Request] | None = None,
    read: Callable[[Tensor, Tensor | None], Tensor] | None = None,
) -> Condition:
    """Return a condition whose layer is fed or read in another way.

    Arguments:
        fed: function of the bottom level's request.
        read: function of the top level's outputs, and of the lengths of the sequences.
    """
    _, module = find_recurrent(condition.model, layer)
    site = site_of(module)

    def run_changed(request: Request, place: Place) -> Result:
        if fed is not None and place.level == 0:
            request = fed(request)
        result = run(request, "auto")
        if read is not None and place.level == site.levels - 1 and request.outputs != "last":
            result = result._replace(outputs=read(result.outputs, request.lengths))
        return result

    def loss(batch: Any) -> Tensor:
        with run_by(module, run_changed, site):
            return condition.loss(batch)

    return dataclasses.replace(condition, loss=loss)


def _by_copies(
    copies: FreshCopies,
    losses: Sequence[float] | None,
    where: str,
    *,
    change: Callable[[Condition], Condition],
    name: str,
    code: str,
    cause: Cause,
    statement: str,
    remedy: str,
) -> Finding | None:
    """Return a fault if a fresh copy with a change learns, and one as it is does not."""
    usual = copies.plain()
    trial = None if usual is None else copies.train(name, change, updates=usual.updates)
    if usual is None or trial is None or not copies.clearly_better(trial, usual):
        return None
    if losses is not None and copies.as_good(losses, trial):
        return None
    copies.add_remedy(name, code, usual, trial)
    return Finding(
        cause=cause,
        severity="fault",
        certainty="measured",
        statement=f"{statement} A fresh copy with {name} reaches a held-out loss of "
        f"{in_words(trial.after)}, an equal one as it is {in_words(usual.after)}.",
        effect=difference(trial.after, usual.after),
        effect_name=f"change of the held-out loss with {name}",
        threshold=0.0,
        measured_on=where,
        remedy=remedy,
    )
