"""Adam with a learning rate of 0.3; the same model learns at 0.01.

Source: fast.ai forum 10961, and many alike.
"""

from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, explained, squared_error


class WalkLength(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(1, 32, batch_first=True)
        self.fc = nn.Linear(32, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.rnn(x)[0][:, -1]).squeeze(1)


def walks(count: int) -> list[tuple[Tensor, Tensor]]:
    """The steps of random walks, and the distances that they cover."""
    x = 0.5 * torch.randn(count, 30, 1)
    return batched(x, x.sum((1, 2)))


def step(model: nn.Module, optimizer: torch.optim.Optimizer, batch: Any) -> Tensor:
    optimizer.zero_grad()
    loss = squared_error(model, batch)
    loss.backward()
    optimizer.step()
    return loss.detach()


def make(faulty: bool) -> Case:
    train, test = walks(1024), walks(512)

    def adam(model: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.Adam(model.parameters(), lr=0.3 if faulty else 0.01)

    def fit(model: nn.Module) -> None:
        optimizer = adam(model)
        for _ in range(15):
            for batch in train:
                step(model, optimizer, batch)

    return Case(
        WalkLength(),
        train,
        squared_error,
        fit,
        lambda m: explained(m, test),
        0.0,
        0.9,
        {"right": {"step size"}, "partly": {"saturated"}} if faulty else {"healthy"},
        lambda m: {"training_step": step, "optimizer": adam(m)},
    )
