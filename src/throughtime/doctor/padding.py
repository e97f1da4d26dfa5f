"""Whether the answer is read at padded steps."""

import torch
from torch import Tensor

from throughtime.doctor.intervals import estimate
from throughtime.foreign.recording import Recording
from throughtime.instruments.gradient_flow import GradientFlow
from throughtime.results.diagnosis import Cause, Finding

_PADDED_SHARE = 0.2  # of the sequences, that end before the last step
_ELSEWHERE = 0.01  # of the steps before the ends, that look like padding


def true_lengths(recording: Recording) -> tuple[Tensor, str] | None:
    """The lengths of sequences that are padded on the right, and how they are known.

    The layer may have been told them. Otherwise padding is a run of the same vector at the end of
    many sequences, of unequal length, which hardly occurs before.

    Arguments:
        recording: of the bottom level, whose inputs are the data's.
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
    """Whether the loss reads outputs beyond the sequences' ends.

    Arguments:
        recording: of the bottom level.
        flow: of the top level, on the same batch.
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
    """Steps before the padding of each sequence of inputs (time, batch, input); at least 1."""
    return _before_padding(_like_padding(x)).clamp_min(1)


def _like_padding(x: Tensor) -> Tensor:
    """(time, batch) which inputs are the vector that the longest run at a sequence's end has."""
    runs = (x == x[-1]).all(-1).flip(0).long().cumprod(0).sum(0)
    return (x == x[-1, int(runs.argmax())]).all(-1)


def _before_padding(like: Tensor) -> Tensor:
    return like.shape[0] - like.flip(0).long().cumprod(0).sum(0).cpu()
