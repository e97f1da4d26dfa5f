"""Padding: the true lengths of sequences, and answers that are read after their ends."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from throughtime.doctor.intervals import estimate
from throughtime.doctor.subject import batch_tensors
from throughtime.foreign.recording import Recording
from throughtime.instruments.gradient_flow import GradientFlow
from throughtime.reports.numbers import in_percent
from throughtime.results.diagnosis import Cause, Finding

_PADDED_SHARE = 0.2  # of the sequences, that end before the last step
_ELSEWHERE = 0.01  # of the steps before the ends, that look like padding


def true_lengths(recording: Recording, batch: Any) -> tuple[Tensor, str] | None:
    """Return the lengths of sequences that are padded on the right, and their origin in words.

    The model may pass lengths to the layer, or the batch may hold them. Otherwise padding is a run
    of the same vector at the end of many sequences, of unequal length, which hardly occurs before.

    Arguments:
        recording: recording of the bottom level, whose inputs are the data's.
        batch: batch that was recorded.
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
    given = given_lengths(recording, batch)
    if given is not None:
        return given(batch), "lengths in the batch"
    like = _like_padding(recording.inputs)
    lengths = _before_padding(like)
    if not _unequal(lengths, recording.time):
        return None
    inside = torch.arange(recording.time)[:, None] < lengths
    if float(like.cpu()[inside].double().mean()) > _ELSEWHERE:
        return None
    return lengths, "the same input vector ends the sequences, at unequal steps"


def given_lengths(recording: Recording, batch: Any) -> Callable[[Any], Tensor] | None:
    """Return a function from a batch to the lengths that it holds; None if it holds none.

    Lengths are whole numbers, one a sequence, or a mask that is true at the first steps. Beyond
    them all inputs of the layer are the same vector.

    Arguments:
        recording: recording of the bottom level.
        batch: batch that was recorded.
    """
    for k, tensor in enumerate(batch_tensors(batch)):
        lengths = _as_lengths(tensor)
        if lengths is None or len(lengths) != recording.batch:
            continue
        if not _unequal(lengths, recording.time):
            continue
        beyond = recording.inputs[torch.arange(recording.time)[:, None] >= lengths]
        if bool((beyond == beyond[0]).all()):
            return lambda batch, k=k: _lengths_at(batch, k)
    return None


def _lengths_at(batch: Any, number: int) -> Tensor:
    lengths = _as_lengths(batch_tensors(batch)[number])
    assert lengths is not None
    return lengths


def _as_lengths(tensor: Tensor) -> Tensor | None:
    if tensor.dim() == 1 and not (tensor.is_floating_point() or tensor.dtype is torch.bool):
        return tensor.cpu().long()
    if tensor.dim() != 2 or not bool(((tensor == 0) | (tensor == 1)).all()):
        return None
    mask = tensor.cpu().long()
    return mask.sum(1) if bool((mask.diff(dim=1) <= 0).all()) else None


def _unequal(lengths: Tensor, time: int) -> bool:
    """Return whether many sequences end before the last step, at several steps."""
    inside = bool(((lengths >= 1) & (lengths <= time)).all())
    padded = float((lengths < time).double().mean()) >= _PADDED_SHARE
    return inside and padded and len(lengths.unique()) >= 3


def read_shares(lengths: Tensor, flow: GradientFlow) -> Tensor:
    """Return the part of each sequence's answer that is read from padding.

    NaN for sequences that are not padded or not read: a rectified read-out may be off for some.

    Arguments:
        lengths: true lengths.
        flow: gradient flow of the top level, on the same batch.
    """
    answer = flow.answer.cpu()
    steps = torch.arange(len(answer))[:, None]
    shares = (answer * (steps >= lengths)).sum(0) / answer.sum(0)
    return torch.where(lengths < len(answer), shares, torch.nan)


def check_padding(recording: Recording, flow: GradientFlow, batch: Any) -> Finding | None:
    """Check that the loss reads no outputs beyond the sequences' ends.

    Arguments:
        recording: recording of the bottom level.
        flow: gradient flow of the top level, on the same batch.
        batch: the batch.
    """
    known = true_lengths(recording, batch)
    if known is None:
        return None
    lengths, how = known
    shares = read_shares(lengths, flow)
    short = shares.isfinite()
    if not bool(short.any()):
        return None
    shares = shares[short]
    read = float((shares > 0.5).double().mean())
    if read < 0.5:
        return None
    missed = (recording.time - lengths[short]).double().mean()
    return Finding(
        cause=Cause.PADDING_READ,
        severity="fault",
        certainty="proved",
        statement=f"{in_percent(read)} of the {int(short.sum())} sequences that end before step "
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
