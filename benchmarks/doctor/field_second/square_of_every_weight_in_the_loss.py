"""The loss contains 0.05 times the sum of the squares of all weights.

Source: kind: discuss.pytorch.org threads on adding L2 regularisation by hand to the loss. The
penalty outweighs the task, and the weights shrink to zero.
Data: Python's own reference; the class is whether two neighbouring pieces were swapped.
"""

from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, accuracy, batched, cross_entropy, fit, prose


class OrderClassifier(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(28, 12)
        self.rnn = nn.GRU(12, 32, batch_first=True)
        self.out = nn.Linear(32, 2)

    def forward(self, text: Tensor) -> Tensor:
        return self.out(self.rnn(self.embedding(text))[0].amax(1))


def penalised(model: nn.Module, batch: Any) -> Tensor:
    return cross_entropy(model, batch) + 0.05 * sum(
        (p.square().sum() for p in model.parameters()), start=torch.zeros(())
    )


def passages(count: int, steps: int) -> tuple[Tensor, Tensor]:
    """Return passages, half of which have each pair of neighbouring characters swapped."""
    text, y = prose(count * steps).view(count, steps), torch.randint(2, (count,))
    text = text[torch.randperm(count)]
    swapped = text.view(count, -1, 2).flip(2).reshape(count, steps)
    return torch.where(y[:, None] == 1, swapped, text), y


def make(faulty: bool) -> Case:
    batches = batched(*passages(32 * 54, 20))
    train, test = batches[:46], batches[46:]
    loss = penalised if faulty else cross_entropy
    return Case(
        OrderClassifier(),
        train,
        loss,
        lambda model: fit(model, train, loss, epochs=14),
        lambda model: accuracy(model, test),
        chance=0.5,
        good=0.85,
        accept={"right": {"weight decay"}, "partly": {"answers do not fit the loss"}}
        if faulty
        else {"healthy", "no long dependency"},
    )
