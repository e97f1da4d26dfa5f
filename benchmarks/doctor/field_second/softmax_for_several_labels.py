"""A softmax shares one unit of probability among labels of which several are true at once.

Source: kind: discuss.pytorch.org threads on multi-label classification with softmax and BCELoss.
No label can pass 0.5 while another does.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.doctor.field_case import Case, answers, batched, fit

LABELS, STEPS = 6, 28


class EventDetector(nn.Module):
    def __init__(self, softmax: bool) -> None:
        super().__init__()
        self.rnn = nn.GRU(LABELS, 32, batch_first=True)
        self.out = nn.Linear(32, LABELS)
        self.softmax = softmax

    def forward(self, x: Tensor) -> Tensor:
        logits = self.out(self.rnn(x)[1][0])
        return logits.softmax(1) if self.softmax else logits.sigmoid()


def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    x, y = batch
    return F.binary_cross_entropy(model(x), y)


def right_labels(model: nn.Module, batches: list[tuple[Tensor, Tensor]]) -> float:
    """Return the share of labels on the right side of 0.5."""
    pairs = answers(model, batches)
    return float(torch.cat([((answer > 0.5) == (y > 0.5)).float() for answer, y in pairs]).mean())


def recordings(count: int) -> tuple[Tensor, Tensor]:
    """Return channels with an event at a step of their own, or without, and which have one."""
    x, y = 0.4 * torch.randn(count, STEPS, LABELS), torch.randint(2, (count, LABELS)).float()
    at = torch.randint(STEPS, (count, 1, LABELS))
    return x.scatter_add(1, at, 3 * y[:, None]), y


def make(faulty: bool) -> Case:
    batches = batched(*recordings(32 * 44))
    train, test = batches[:36], batches[36:]
    return Case(
        EventDetector(softmax=faulty),
        train,
        loss,
        lambda model: fit(model, train, loss, epochs=14),
        lambda model: right_labels(model, test),
        chance=0.5,
        good=0.9,
        accept={"right": {"answers do not fit the loss"}, "partly": set()}
        if faulty
        else {"healthy"},
    )
