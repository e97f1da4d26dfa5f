"""The training loop of a load forecaster never calls `zero_grad`.

Source: preproom.ai and runebook.dev on `zero_grad`; kind: stats.stackexchange.com 376851, where the
posted loop lacks it. Data: the load after a number of switches that were thrown on or off.
"""

from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, explained, squared_error


class Load(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(3, 24, batch_first=True)
        self.fc = nn.Linear(24, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.gru(x)[0])[..., 0]


def switches(count: int, steps: int) -> tuple[Tensor, Tensor]:
    x = torch.zeros(count, steps, 3)
    which = torch.randint(4, (count, steps))
    for switch in range(3):
        x[..., switch] = (which == switch) * torch.randn(count, steps)
    return x, (x @ torch.tensor([1.0, -0.5, 0.7])).cumsum(1) / 2


def make(faulty: bool) -> Case:
    batches = batched(*switches(32 * 40, 16))
    train, test = batches[:32], batches[32:]

    def optimizer(model: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.Adam(model.parameters(), lr=0.02)

    def step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer) -> Tensor:
        if not faulty:
            optimizer.zero_grad()
        loss = squared_error(model, batch)
        loss.backward()
        optimizer.step()
        return loss

    def fit(model: nn.Module) -> None:
        own = optimizer(model)
        for _ in range(12):
            for i in torch.randperm(len(train)).tolist():
                step(model, train[i], own)

    return Case(
        Load(),
        train,
        squared_error,
        fit,
        lambda model: explained(model, test),
        chance=0.0,
        good=0.8,
        accept={"right": {"gradients not zeroed"}, "partly": set()}
        if faulty
        else {"healthy", "no long dependency"},
        options=lambda model: {"training_step": step, "optimizer": optimizer(model)},
    )
