"""Faults that the reference predictors share, and in spite of which a model may learn a part."""

from collections.abc import Sequence
from typing import Any

from throughtime.doctor.carried_state import check_dropped, check_resets
from throughtime.doctor.dropout import check_dropout
from throughtime.doctor.fed_and_read import check_fed_and_read
from throughtime.doctor.fresh_copies import FreshCopies
from throughtime.doctor.function_undone import check_function
from throughtime.doctor.pooled_padding import check_pooled_padding
from throughtime.doctor.sample_axes import SampleAxes
from throughtime.foreign.recording import Recording
from throughtime.results.diagnosis import Cause, Finding


def shared_fault(
    copies: FreshCopies,
    findings: list[Finding],
    losses: Sequence[float],
    where: str,
    axes: SampleAxes | None,
    recording: Recording,
    flow: Any,
    lag: int,
    *,
    dropped: bool,
) -> Finding | None:
    """Find one by copies without it.

    Arguments:
        copies: trials of fresh copies.
        findings: findings so far.
        losses: held-out losses of the model.
        where: layer and batches, in words.
        axes: sample axes of the tensors of a batch; None where they are not known.
        recording: recording of the bottom level on the first held-out batch.
        flow: gradient flow of the top level on the same batch.
        lag: steps over which the state is carried.
        dropped: If True, states that are dropped between calls of the layer are examined elsewhere.
    """
    fault = (
        check_function(copies, findings, losses, where)
        or check_dropout(copies, losses, lag, where)
        or (None if dropped else check_dropped(copies, losses, where))
        or check_resets(copies, axes, recording, losses, where)
        or check_fed_and_read(copies, recording, flow, losses, where)
    )
    if fault is not None or any(finding.cause is Cause.PADDING_READ for finding in findings):
        return fault
    return check_pooled_padding(copies, recording, flow, where)
