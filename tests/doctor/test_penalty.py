"""Penalties of the weights within the loss."""

from typing import Any

import pytest
import torch
from doctor.faulty_models import WIDTH, Classifier, cross_entropy, first_steps
from torch import Tensor, nn

from throughtime.doctor import Cause, fresh_copies
from throughtime.doctor.fresh_copies import FreshCopies
from throughtime.doctor.need import Need
from throughtime.doctor.penalty import check_penalty, without_penalty
from throughtime.doctor.remedies import Trainer
from throughtime.doctor.subject import Clock, Subject

NEED = Need([0.7, 0.7, 0.7], [0.7] * 3, [0.7] * 3, 3, None, None, {}, learned=False)


def penalised(factor: float) -> Any:
    def loss(model: nn.Module, batch: Any) -> Tensor:
        return cross_entropy(model, batch) + factor * sum(
            p.square().sum() for p in model.parameters()
        )

    return loss


def subject_of(loss: Any, time: int = 3) -> Subject:
    torch.manual_seed(0)
    model = Classifier(nn.GRU(WIDTH, 5, batch_first=True))
    return Subject(model, first_steps(12, 20, time), loss, 6.0)


def test_the_loss_without_the_penalty_is_that_of_the_answers() -> None:
    subject = subject_of(penalised(0.3))
    other = without_penalty(subject)
    assert other is not None
    plain = Subject(subject.copy(), [*subject.training, *subject.held_out], cross_entropy, 6.0)
    losses = [other.held_out_losses(subject.copy()), plain.held_out_losses(plain.copy())]
    torch.testing.assert_close(*map(torch.tensor, losses))
    model, twin = other.copy(training=True), other.copy(training=True)
    other.loss(model, other.training[0]).backward()
    cross_entropy(twin, other.training[0]).backward()
    for one, two in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(one.grad, two.grad)


def activity(model: Any, batch: Any) -> Tensor:
    """Also reads the model's layer, of each batch."""
    return cross_entropy(model, batch) + model.layer(batch[0])[0].square().mean()


@pytest.mark.parametrize("loss", [cross_entropy, activity])
def test_without_a_penalty_of_weights_nothing_is_taken_out(loss: Any) -> None:
    assert without_penalty(subject_of(loss)) is None


@pytest.mark.parametrize(("factor", "faulty"), [(1.0, True), (1e-4, False)])
def test_a_penalty_is_at_fault_where_it_keeps_a_copy_from_learning(
    factor: float, faulty: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fresh_copies, "UPDATES", 120)
    subject = subject_of(penalised(factor))
    copies = FreshCopies(Trainer(subject, 0), "layer", NEED, Clock(60.0))
    found = check_penalty(copies, "here")
    assert (found is not None) is faulty
    if found is not None:
        assert found.cause is Cause.WEIGHT_DECAY
        assert "times the rest" in found.statement
        assert copies.remedies[0].helped
