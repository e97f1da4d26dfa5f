"""Losses whose masks select targets that are all the same."""

from typing import Any

import pytest
import torch
from doctor.faulty_models import BATCH, TIME, WIDTH, Classifier
from torch import Tensor, nn
from torch.nn import functional as F

from throughtime.doctor import Cause
from throughtime.doctor.subject import Subject
from throughtime.doctor.taken_targets import check_taken


def filled(classes: int) -> list[Any]:
    """Batches (x, y, seen): targets at every step, 0 where none is seen."""
    made = []
    for _ in range(4):
        x, seen = torch.randn(BATCH, TIME, WIDTH), torch.rand(BATCH, TIME) < 0.5
        y = torch.randint(classes, seen.shape) if classes > 1 else torch.randn(seen.shape)
        made.append((x, torch.where(seen, y, torch.zeros_like(y)), seen))
    return made


def squares(model: nn.Module, batch: Any, mask: Tensor) -> Tensor:
    error = (model(batch[0])[..., 0] - batch[1]).square() * mask
    return error.sum() / mask.sum()


def entropies(model: nn.Module, batch: Any, mask: Tensor) -> Tensor:
    answers = model(batch[0]).transpose(1, 2)
    return (F.cross_entropy(answers, batch[1], reduction="none") * mask).sum() / mask.sum()


@pytest.mark.parametrize(("loss", "classes"), [(squares, 1), (entropies, 3)])
def test_a_mask_that_selects_what_is_filled_in_is_found(loss: Any, classes: int) -> None:
    torch.manual_seed(0)
    model = Classifier(nn.GRU(WIDTH, 5, batch_first=True), classes, read="steps")

    def found(seen: bool) -> Any:
        return check_taken(
            Subject(model, filled(classes), lambda m, b: loss(m, b, b[2] == seen), 6.0)
        )

    assert found(seen=True) is None
    finding = found(seen=False)
    assert finding is not None
    assert finding.cause is Cause.NO_DEPENDENCE
    assert "all of these are 0, while the others vary" in finding.statement
    assert "Look at the mask" in finding.remedy


def test_without_a_mask_and_of_rewards_nothing_is_found() -> None:
    torch.manual_seed(0)
    model = Classifier(nn.GRU(WIDTH, 5, batch_first=True), 2, read="steps")

    def rewarded(model: nn.Module, batch: Any) -> Tensor:
        """A reward of 0 has no gradient, and the others are all 1."""
        return -(model(batch[0]).log_softmax(-1)[..., 0] * (batch[1] > 0)).mean()

    def of(loss: Any, batches: Any) -> Subject:
        return Subject(model, batches, loss, 6.0)

    whole = lambda m, b: entropies(m, b, torch.ones_like(b[2]))  # noqa: E731
    assert check_taken(of(whole, filled(2))) is None
    same = [(x, torch.ones_like(y), seen) for x, y, seen in filled(2)]
    assert check_taken(of(whole, same)) is None  # all are the same: no mask is at fault
    assert check_taken(of(rewarded, filled(2))) is None


def test_a_loss_that_also_reads_something_else_is_left_alone() -> None:
    torch.manual_seed(0)
    model = Classifier(nn.GRU(WIDTH, 5, batch_first=True), 1, read="steps")

    def both(model: nn.Module, batch: Any) -> Tensor:
        shares = model(batch[0] + 1)[..., 0].sigmoid()
        return squares(model, batch, ~batch[2]) - (shares * batch[1]).mean()

    assert check_taken(Subject(model, filled(1), both, 6.0)) is None
