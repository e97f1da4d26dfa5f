"""zero_grad is called after backward, before the update: the gradients are gone.

Source: kind: stackoverflow, the order of zero_grad, backward and step.
"""

from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, explained, squared_error


class Smoother(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(2, 24, batch_first=True)
        self.head = nn.Linear(24, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(x)[0]).squeeze(-1)


def held(count: int) -> list[tuple[Tensor, Tensor]]:
    """A value and a flag; the target holds the last value with a flag."""
    flag = (torch.rand(count, 24) < 0.1).float()
    flag[:, 0] = 1
    value, target = torch.randn(count, 24), torch.zeros(count, 24)
    last = torch.zeros(count)
    for t in range(24):
        last = torch.where(flag[:, t] > 0, value[:, t], last)
        target[:, t] = last
    return batched(torch.stack([value, flag], -1), target, size=32)


def make(faulty: bool) -> Case:
    train, test = held(960), held(256)

    def step(model: nn.Module, optimizer: torch.optim.Optimizer, batch: Any) -> Tensor:
        if not faulty:
            optimizer.zero_grad()
        loss = squared_error(model, batch)
        loss.backward()
        if faulty:
            optimizer.zero_grad()
        optimizer.step()
        return loss.detach()

    def adam(model: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.Adam(model.parameters(), lr=0.01)

    def fit(model: nn.Module) -> None:
        optimizer = adam(model)
        for _ in range(12):
            for batch in train:
                step(model, optimizer, batch)

    return Case(
        Smoother(),
        train,
        squared_error,
        fit,
        lambda m: explained(m, test),
        0.0,
        0.8,
        {"right": {"not trained"}, "partly": set()} if faulty else {"healthy"},
        lambda m: {"training_step": step, "optimizer": adam},
    )
