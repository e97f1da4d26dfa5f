"""Sample axes of batches in which sizes and targets leave two readings."""

import torch
from torch import Tensor

from throughtime.doctor.sample_axes import sample_axes

COUNT, TIME = 12, 10


def walks(count: int) -> list[Tensor]:
    """Tokens (samples, time), each near the one before."""
    torch.manual_seed(0)
    return [torch.randint(2, (COUNT, TIME + 1)).cumsum(1) % 7 for _ in range(count)]


def test_targets_that_are_the_next_inputs_show_the_axis_of_time() -> None:
    for axis in (0, 1):
        batches = [(w[:, :-1], w[:, 1:]) for w in walks(6)]
        turned = [tuple(t.transpose(0, axis).contiguous() for t in batch) for batch in batches]
        found = sample_axes(turned)
        assert found is not None
        assert (found.axes, found.count) == ((axis, axis), COUNT)
        assert "shifted" in found.how


def test_tokens_that_depend_on_those_before_show_the_axis_of_time() -> None:
    for axis in (0, 1):
        found = sample_axes([w.transpose(0, axis).contiguous() for w in walks(20)])
        assert found is not None
        assert (found.axes, found.count) == ((axis,), COUNT)
    assert sample_axes([torch.randint(7, (COUNT, TIME)) for _ in range(20)]) is None


def test_batches_of_one_class_each_leave_it_open() -> None:
    """Neighbours are alike along both axes."""
    torch.manual_seed(0)
    levels = [torch.randn(1, 1).cumsum(0) for _ in range(20)]
    smooth = [torch.randn(COUNT, TIME).cumsum(0).cumsum(1) + level for level in levels]
    assert sample_axes(smooth) is None
