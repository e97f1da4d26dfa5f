"""The loader yields (time, batch, features) as a dictionary, and the layer is `batch_first`.

Source: JulesBelveze/time-series-autoencoder, issue 9, "Regarding input dimensions".
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.doctor.field_case import Case, fit


class Tank(nn.Module):
    """The level of a tank at every step, from its inflow and its valve."""

    def __init__(self, batch_first: bool) -> None:
        super().__init__()
        self.input = nn.Linear(2, 12)
        self.rnn = nn.GRU(12, 24, batch_first=batch_first)
        self.level = nn.Linear(24, 1)

    def forward(self, features: Tensor) -> Tensor:
        out, _ = self.rnn(torch.tanh(self.input(features)))
        return self.level(out).squeeze(-1)


def tanks(steps: int, count: int) -> dict[str, Tensor]:
    flow = (torch.rand(steps, count) < 0.3).float()
    valve = (torch.rand(steps, count) < 0.05).float()
    level, levels = torch.zeros(count), []
    for t in range(steps):
        level = (level + 0.3 * flow[t]) * (1 - valve[t])
        levels.append(level)
    return {"features": torch.stack((flow, valve), -1), "level": torch.stack(levels)}


def loss(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    return F.mse_loss(model(batch["features"]), batch["level"])


def make(faulty: bool) -> Case:
    train = [tanks(40, 12) for _ in range(40)]
    test = [tanks(40, 12) for _ in range(10)]

    def score(model: nn.Module) -> float:
        with torch.no_grad():
            error = sum(float(loss(model, batch)) for batch in test) / len(test)
        return 1 - error / float(torch.stack([b["level"] for b in test]).var())

    return Case(
        Tank(batch_first=faulty),
        train,
        loss,
        lambda model: fit(model, train, loss, epochs=15),
        score,
        chance=0.0,
        good=0.9,
        accept={"right": {"time and batch swapped"}, "partly": {"samples mixed"}}
        if faulty
        else {"healthy"},
    )
