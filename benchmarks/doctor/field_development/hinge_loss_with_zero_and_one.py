"""A hinge loss, made for labels -1 and 1, gets labels 0 and 1: the zeros count for nothing.

Source: kind: stackoverflow, hinge loss with labels 0 and 1 always predicts one class.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, cued, fit


class Judge(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(4, 24, batch_first=True, bidirectional=True)
        self.out = nn.Linear(48, 1)

    def forward(self, x: Tensor) -> Tensor:
        _, (hidden, _) = self.rnn(x)
        return self.out(torch.cat([hidden[0], hidden[1]], 1)).squeeze(1)


def hinge(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    x, label = batch
    return (1 - label * model(x)).relu().mean()


def make(faulty: bool) -> Case:
    def data(count: int) -> list[tuple[Tensor, Tensor]]:
        x, y = cued(count, 15, at=6)
        return batched(x, y.float() if faulty else 2.0 * y - 1)

    train, test = data(960), data(320)

    @torch.no_grad()
    def score(model: nn.Module) -> float:
        right = [((model(x) > 0) == (label > 0)).float().mean() for x, label in test]
        return float(torch.stack(right).mean())

    return Case(
        Judge(),
        train,
        hinge,
        lambda m: fit(m, train, hinge, epochs=10),
        score,
        0.5,
        0.9,
        {"right": {"answers do not fit the loss"}, "partly": {"no dependence found"}}
        if faulty
        else {"healthy", "no long dependency"},
    )
