"""A sigmoid stands before the cross-entropy of ten classes; the loss stays above 1.46.

Source: pytorch/pytorch issue 30150, "the loss is not changed (loss=2.3)"; kind: squashed logits.
Data: handwritten digits, half a row of pixels a step.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.doctor.field_case import Case, answers, batched, cross_entropy, digits, fit


class HalfRowReader(nn.Module):
    def __init__(self, sigmoid: bool) -> None:
        super().__init__()
        self.rnn = nn.LSTM(4, 40, batch_first=True)
        self.out = nn.Linear(40, 10)
        self.sigmoid = sigmoid

    def forward(self, x: Tensor) -> Tensor:
        _, (h_n, _) = self.rnn(x)
        logits = self.out(h_n[0])
        return torch.sigmoid(logits) if self.sigmoid else logits


def test_loss(model: nn.Module, batches: list[tuple[Tensor, Tensor]]) -> float:
    """Return the cross-entropy on the test batches."""
    losses = [F.cross_entropy(answer, y) for answer, y in answers(model, batches)]
    return float(sum(losses)) / len(losses)


def make(faulty: bool) -> Case:
    images, classes = digits()
    batches = batched(images.reshape(-1, 16, 4), classes)
    train, test = batches[:44], batches[44:]
    return Case(
        HalfRowReader(sigmoid=faulty),
        train,
        cross_entropy,
        lambda model: fit(model, train, cross_entropy, epochs=15),
        lambda model: test_loss(model, test),
        chance=2.303,
        good=0.5,
        accept={"right": {"answers do not fit the loss"}, "partly": set()}
        if faulty
        else {"healthy", "no long dependency"},
    )
