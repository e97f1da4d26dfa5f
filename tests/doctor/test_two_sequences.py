"""Targets that depend on two sequences together, and shuffled ones, which do not."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from throughtime.doctor.known_lag import KnownLag
from throughtime.doctor.sample_axes import SampleAxes
from throughtime.doctor.subject import Subject
from throughtime.doctor.two_sequences import dependence_of_pairs

BATCH, TIME, WIDTH = 40, 5, 4  # too wide for products of two features
AXES = SampleAxes((0, 0, 0), BATCH, "given")


class Siamese(nn.Module):
    """A network that compares two sequences, in two calls of its layer or in one."""

    def __init__(self, calls: int) -> None:
        super().__init__()
        self.calls = calls
        self.encoder = nn.GRU(WIDTH, 8, batch_first=True)
        self.scale = nn.Linear(8, 1)

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        if self.calls == 1:
            a, b = self.encoder(torch.cat([left, right]))[1][-1].chunk(2)
        else:
            a, b = self.encoder(left)[1][-1], self.encoder(right)[1][-1]
        return self.scale((a - b).square())[:, 0]


def loss(model: nn.Module, batch: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    return F.binary_cross_entropy_with_logits(model(batch[0], batch[1]), batch[2])


def subject_of(calls: int, *, shuffled: bool) -> Subject:
    torch.manual_seed(0)
    batches: list[tuple[Tensor, Tensor, Tensor]] = []
    for _ in range(6):
        left, other = torch.randn(2, BATCH, TIME, WIDTH)
        same = torch.rand(BATCH) < 0.5
        right = torch.where(same[:, None, None], left, other)
        order = torch.randperm(BATCH) if shuffled else torch.arange(BATCH)
        batches.append((left, right[order], same.float()))
    return Subject(Siamese(calls), batches, loss, 6.0)


@pytest.mark.parametrize("calls", [1, 2])
def test_pairs_and_shuffled_pairs(calls: int) -> None:
    found = dependence_of_pairs(subject_of(calls, shuffled=False), "encoder", AXES, 0)
    assert found is not None
    assert found.found
    nothing = dependence_of_pairs(subject_of(calls, shuffled=True), "encoder", AXES, 0)
    assert nothing is not None
    assert not nothing.found


def test_no_dependence_is_known_where_the_pairs_show_none_either() -> None:
    answered = torch.arange(TIME)[:, None].eq(TIME - 1).expand(TIME, BATCH)
    for shuffled in (False, True):
        known = KnownLag(subject_of(2, shuffled=shuffled), "encoder", None, 0)
        known.search(answered, AXES, separate=True)
        assert (known.dependence is not None) == shuffled
