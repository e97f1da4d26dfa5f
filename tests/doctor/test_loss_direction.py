"""The sign of the loss, and labels other than those that it takes, by its derivatives."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from doctor.faulty_models import BATCH, TIME, WIDTH
from torch import Tensor, nn
from torch.distributions import Bernoulli, Categorical, Normal
from torch.nn import functional as F

from throughtime.doctor import diagnose
from throughtime.doctor.loss_direction import check_direction
from throughtime.doctor.subject import Subject
from throughtime.results.diagnosis import Cause

Loss = Callable[[Tensor, Any], Tensor]


class Model(nn.Module):
    """Three answers a sequence."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.GRU(WIDTH, 6, batch_first=True)
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Answers (batch, 3)."""
        return self.head(self.layer(x)[0][:, -1])


def statement(loss: Loss, make: Callable[[], Any], count: int = 4) -> str:
    """Return the statement on a loss of answers and the rest of the batch; "" for none."""
    torch.manual_seed(0)
    batches = [(torch.randn(BATCH, TIME, WIDTH), make()) for _ in range(count)]
    subject = Subject(Model(), batches, lambda model, b: loss(model(b[0]), b[1]), 6.0)
    found = check_direction(subject)
    if found is None:
        return ""
    assert (found.cause, found.severity) == (Cause.ANSWERS_UNFIT, "fault")
    return f"{found.statement} {found.remedy}"


def bits() -> Tensor:
    return torch.randint(2, (BATCH, 3)).float()


def classes() -> Tensor:
    return torch.randint(3, (BATCH,))


def values() -> Tensor:
    return torch.randn(BATCH, 3)


def acted() -> tuple[Tensor, Tensor]:
    """Actions and their values, of which the mean is 0."""
    return classes(), torch.randn(BATCH)


bce = F.binary_cross_entropy_with_logits


@pytest.mark.parametrize(
    ("scale", "shift", "remedy"),
    [
        (1, 1, "labels are 1 and 2: for"),
        (1, 1, "labels 0 and 1: labels - 1."),
        (2, -1, "(labels + 1) / 2."),
        (255, 0, "labels / 255."),
        (1, 0, ""),
        (0.9, 0.05, ""),
    ],
)
@pytest.mark.parametrize("loss", [bce, F.multilabel_soft_margin_loss])
def test_labels_out_of_range(loss, scale: float, shift: float, remedy: str) -> None:
    found = statement(loss, lambda: scale * bits() + shift)
    assert bool(found) == bool(remedy)
    assert remedy in found


def test_labels_that_a_mask_leaves_out_may_have_any_value() -> None:
    def labels() -> Tensor:
        return torch.randint(-1, 2, (BATCH, 3)).float()

    def masked(answers: Tensor, labels: Tensor) -> Tensor:
        return (bce(answers, labels, reduction="none") * (labels >= 0)).mean()

    assert statement(masked, labels) == ""
    assert statement(lambda a, y: bce(a, y, weight=(y >= 0).float()), labels) == ""
    assert "-1, 0 and 1" in statement(bce, labels)


def row(answers: Tensor) -> Tensor:
    return answers[:, 0]


@pytest.mark.parametrize(
    "loss",
    [
        F.soft_margin_loss,
        lambda a, y: (1 - y * a).relu().mean(),
        lambda a, y: torch.clamp(1 - a * y, min=0).square().mean(),
        lambda a, y: torch.maximum(torch.zeros(()), 1 - a * y).mean(),
        lambda a, y: torch.log(1 + torch.exp(-y * a)).mean(),
        lambda a, y: -F.logsigmoid(y * a).mean(),
        lambda a, y: F.hinge_embedding_loss((a - 1).square(), y),
        lambda a, y: F.cosine_embedding_loss(a, a.detach().roll(1, 0), y[:, 0]),
        lambda a, y: F.margin_ranking_loss(row(a), row(a.roll(1, 0)), y[:, 0], margin=1.0),
    ],
)
def test_labels_0_and_1_under_losses_of_signs(loss: Loss) -> None:
    found = statement(loss, bits)
    assert "labels are 0 and 1" in found
    assert "2 * labels - 1" in found
    assert statement(lambda a, y: loss(a, 2 * y - 1), bits) == ""


TURNED = [
    (F.mse_loss, values, "the minus before mse_loss"),
    (F.cross_entropy, classes, "the minus before cross_entropy"),
    (lambda a, y: (a - y).square().mean(), values, "move away from their targets"),
    (lambda a, y: (y + 100 - a).pow(2).mean(), values, "move away from their targets"),
    (lambda a, y: (y - a).abs().sum(), values, "move away from their targets"),
    (lambda a, y: -Normal(a, 1.0).log_prob(y).mean(), values, "move away from their targets"),
    (lambda a, y: -Bernoulli(logits=a).log_prob(y).mean(), bits, "before binary_cross_entropy"),
    (lambda a, y: -a.log_softmax(1).gather(1, y[:, None]).mean(), classes, "a minus is missing"),
    (lambda a, y: -a.log_softmax(1)[range(BATCH), y].sum(), classes, "a minus is missing"),
    (lambda a, y: -a.softmax(1).log().gather(1, y[:, None]).sum(), classes, "a minus is missing"),
    (lambda a, y: -(F.one_hot(y, 3) * a.log_softmax(1)).sum(), classes, "a minus is missing"),
    (
        lambda a, y: -(y * a.sigmoid().log() + (1 - y) * (1 - a.sigmoid()).log()).mean(),
        bits,
        "a minus is missing",
    ),
    (lambda a, y: 1 - F.cosine_similarity(a, y).mean(), values, "1 - F.cosine_similarity"),
    (lambda a, b: -(Categorical(logits=a).log_prob(b[0]) * b[1]).mean(), acted, "A policy's loss"),
    (
        lambda a, b: (-a.log_softmax(1).gather(1, b[0][:, None])[:, 0] * (b[1] > 0)).mean(),
        acted,
        "A policy's loss",
    ),
    (
        lambda a, b: -((Categorical(logits=a).log_prob(b[0]) + 1).exp() * b[1]).mean(),
        acted,
        "A policy's loss",
    ),
]


@pytest.mark.parametrize(("loss", "make", "words"), TURNED)
def test_a_loss_whose_sign_is_turned(loss: Loss, make: Callable[[], Any], words: str) -> None:
    assert statement(loss, make) == ""
    assert words in statement(lambda a, y: -loss(a, y), make)


def test_terms_that_are_meant_to_rise() -> None:
    """An adversary beside the task; weights of both signs; a mask; a correlation; a rate."""

    def adversary(answers: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(answers, y) - 0.1 * F.mse_loss(answers, F.one_hot(y, 3).float())

    assert statement(adversary, classes) == ""
    assert statement(lambda a, y: -bce(a, y * 0), bits) == ""

    def weighted(answers: Tensor, batch: Any) -> Tensor:
        return (F.cross_entropy(answers, batch[0], reduction="none") * batch[1]).mean()

    assert statement(weighted, acted) == ""
    assert statement(lambda a, y: (a * (y > 0) - y).square().mean(), values) == ""
    assert statement(lambda a, y: -((a - a.mean(0)) * (y - y.mean(0))).mean(), values) == ""
    assert statement(lambda a, y: (a.exp() - y * a).mean(), bits) == ""
    assert statement(lambda a, y: torch.maximum(0.1 * (y - a), 0.9 * (a - y)).mean(), values) == ""


@pytest.mark.parametrize("diverged", [False, True])
def test_verdict(diverged: bool) -> None:
    """Also of weights that are not finite: a loss without a lower bound drives them there."""
    model, options = Model(), {}

    def sgd(made: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.SGD(made.parameters())

    sgd(model)  # the first takes seconds, of imports
    if diverged:
        options["optimizer"] = sgd
        with torch.no_grad():
            model.head.bias.fill_(float("nan"))
    batches = [(torch.randn(BATCH, TIME, WIDTH), bits() + 1) for _ in range(8)]
    found = diagnose(model, batches, bce, budget="20s", remedies=False, **options)
    assert found.verdict is Cause.ANSWERS_UNFIT
