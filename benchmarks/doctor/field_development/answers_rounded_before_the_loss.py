"""The answers are rounded to 0 and 1 before the loss, which has no gradient then.

Source: kind: stackoverflow, a loss on rounded predictions or on argmax does not train.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.doctor.field_case import Case, answers, batched, cued, fit


class Alarm(nn.Module):
    def __init__(self, rounded: bool) -> None:
        super().__init__()
        self.lstm = nn.LSTM(4, 24, batch_first=True)
        self.fc = nn.Linear(24, 1)
        self.rounded = rounded

    def forward(self, x: Tensor) -> Tensor:
        chance = torch.sigmoid(self.fc(self.lstm(x)[0][:, -1])).squeeze(-1)
        return chance.round() if self.rounded else chance


def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    x, y = batch
    return F.binary_cross_entropy(model(x), y)


def make(faulty: bool) -> Case:
    def data(count: int) -> list[tuple[Tensor, Tensor]]:
        x, y = cued(count, 16)
        return batched(x, y.float())

    train, test = data(960), data(320)

    def score(model: nn.Module) -> float:
        right = [((a > 0.5) == (y > 0.5)).float().mean() for a, y in answers(model, test)]
        return float(torch.stack(right).mean())

    return Case(
        Alarm(faulty),
        train,
        loss,
        lambda m: fit(m, train, loss, epochs=16),
        score,
        0.5,
        0.9,
        {
            "right": {"not trained", "gradient cut", "answers do not fit the loss"},
            "partly": {"dead units"},
        }
        if faulty
        else {"healthy"},
    )
