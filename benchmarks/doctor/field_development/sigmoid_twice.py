"""sigmoid in the model and BCEWithLogitsLoss after it, with few positives: never a positive.

Source: Rebuilt, no single thread: BCEWithLogitsLoss after a sigmoid.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.doctor.field_case import Case, answers, batched, cued, fit


class Alarm(nn.Module):
    def __init__(self, sigmoid: bool) -> None:
        super().__init__()
        self.sigmoid = sigmoid
        self.lstm = nn.LSTM(4, 32, batch_first=True)
        self.fc = nn.Linear(32, 1)

    def forward(self, x: Tensor) -> Tensor:
        out = self.fc(self.lstm(x)[0][:, -1]).squeeze(1)
        return out.sigmoid() if self.sigmoid else out


def loss(model: nn.Module, batch: Any) -> Tensor:
    x, y = batch
    return F.binary_cross_entropy_with_logits(model(x), y)


def recordings(count: int) -> list[tuple[Tensor, Tensor]]:
    """Recordings of which a quarter has the event that raises the alarm."""
    x, event = cued(count, 12, 4)
    return batched(x, (event == 0).float())


def make(faulty: bool) -> Case:
    train, test = recordings(1024), recordings(512)

    def recall(model: nn.Module) -> float:
        pairs = answers(model, test)
        answer, target = torch.cat([a for a, _ in pairs]), torch.cat([y for _, y in pairs])
        found = (answer if faulty else answer.sigmoid()) > 0.5
        return float(found[target == 1].float().mean())

    return Case(
        Alarm(faulty),
        train,
        loss,
        lambda m: fit(m, train, loss, 20),
        recall,
        0.0,
        0.9,
        {"right": {"answers do not fit the loss"}, "partly": set()} if faulty else {"healthy"},
    )
