"""Sequences of unequal length: checking lengths, packing valid steps, running time backwards."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from throughtime.core.capture import capturing
from throughtime.core.errors import LengthsError


class Packing(NamedTuple):
    """Places of the valid steps of a padded (time, batch) grid, longest sequence first.

    Attributes:
        order: (batch,) the sequences from longest to shortest.
        counts: number of sequences that reach each step, up to the last that any reaches.
        positions: (valid,) places in the flattened grid, step by step, in that order.
    """

    order: Int[Tensor, " batch"]
    counts: list[int]
    positions: Int[Tensor, " valid"]

    def pack(self, grid: Tensor) -> Tensor:
        """The valid rows of a (time, batch, ...) tensor: (valid, ...)."""
        return grid.flatten(0, 1).index_select(0, self.positions)

    def unpack(self, rows: Tensor, time: int) -> Tensor:
        """Back to (time, batch, ...), zeros where there is no valid step."""
        batch = self.order.shape[0]
        grid = rows.new_zeros(time * batch, *rows.shape[1:])
        return grid.index_copy(0, self.positions, rows).unflatten(0, (time, batch))


def packing(lengths: Int[Tensor, " batch"], device: torch.device) -> Packing:
    """The packing of sequences of these lengths (checked by `check_lengths`).

    Arguments:
        lengths: (batch,) on the CPU, each at least 1.
        device: place of the packing's tensors.
    """
    order = torch.argsort(lengths, descending=True, stable=True)
    steps = torch.arange(int(lengths.max()) if len(lengths) else 0, device="cpu")
    valid = steps[:, None] < lengths[order]
    index = (steps[:, None] * len(lengths) + order)[valid]
    return Packing(order.to(device), valid.sum(1).tolist(), index.to(device))


def check_lengths(lengths: object, time: int, batch: int) -> Int[Tensor, " batch"] | None:
    """Lengths as int64 on the CPU; None if every sequence fills the time axis.

    Where a program is captured there are no values yet: they are not checked, and never None.

    Arguments:
        lengths: (batch,) whole numbers from 1 to `time`, a tensor or a sequence.
        time: number of steps of the padded input.
        batch: number of sequences.

    Returns:
        A copy: the given tensor may be changed before a backward pass.

    Raises:
        LengthsError: of another type or number, below 1, or beyond `time`.
    """
    try:
        checked = torch.as_tensor(lengths, device=None if isinstance(lengths, Tensor) else "cpu")
    except (TypeError, ValueError, RuntimeError):
        raise LengthsError(
            "lengths", got=type(lengths).__name__, expected="whole numbers, one a sequence"
        ) from None
    if checked.is_floating_point() or checked.is_complex() or checked.dtype == torch.bool:
        raise LengthsError(
            "lengths", got=f"dtype {checked.dtype}", expected="whole numbers, as torch.int64"
        )
    if tuple(checked.shape) != (batch,):
        raise LengthsError(
            "lengths",
            got=f"shape {tuple(checked.shape)}",
            expected=f"shape ({batch},): one a sequence",
        )
    checked = checked.to("cpu", torch.int64, copy=True)
    if capturing():
        return checked
    outside = (checked < 1) | (checked > time)
    if outside.any():
        where = int(outside.nonzero()[0])
        raise LengthsError(
            "lengths",
            got=f"{int(checked[where])} for sequence {where}",
            expected=f"from 1 to the {time} time steps of the input",
            fix="Leave empty sequences out of the batch.",
        )
    return None if bool((checked == time).all()) else checked


def reverse_time(grid: Tensor, lengths: Int[Tensor, " batch"] | None) -> Tensor:
    """Each sequence's valid steps backwards, padding left where it is; its own inverse.

    Arguments:
        grid: (time, batch, ...).
        lengths: (batch,) on the CPU, or None where all are valid.
    """
    if lengths is None:
        return grid.flip(0)
    time, batch = grid.shape[:2]
    steps = torch.arange(time, device="cpu")[:, None]
    source = torch.where(steps < lengths, lengths - 1 - steps, steps) * batch
    source = source + torch.arange(batch, device="cpu")
    rows = grid.flatten(0, 1).index_select(0, source.flatten().to(grid.device))
    return rows.unflatten(0, (time, batch))


def reverse_resets(
    resets: Bool[Tensor, "time batch"], lengths: Int[Tensor, " batch"] | None
) -> Bool[Tensor, "time batch"]:
    """The resets of the reverse direction, in its own order of time.

    A reset at t is a border between t-1 and t, which neither direction crosses: backwards it is
    step t-1 that starts afresh.
    """
    time = resets.shape[0]
    steps = torch.arange(time, device=resets.device)[:, None]
    last = time - 1 if lengths is None else lengths.to(resets.device) - 1
    return reverse_time(resets.roll(-1, 0) & (steps < last), lengths)


def steps_since_reset(
    start: Int[Tensor, " batch"], resets: Bool[Tensor, "time batch"] | None, time: int
) -> Int[Tensor, "time batch"]:
    """Return the number of steps since the start or the last reset, of each step.

    Arguments:
        start: (batch,) steps already done before the first of these.
        resets: True where a step starts afresh: that step is number 0.
        time: number of steps.
    """
    t = torch.arange(time, device=start.device)[:, None]
    if resets is None:
        return t + start
    last = torch.where(resets, t, -1).cummax(0).values
    return torch.where(last >= 0, t - last, t + start)
