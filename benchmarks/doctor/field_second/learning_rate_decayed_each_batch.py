"""The learning rate is multiplied by 0.8 after each batch in place of each epoch.

Source: ivadomed/ivadomed pull request 55, a scheduler that steps in the loop over the batches.
After some dozen batches the steps are too small to learn anything. Task: the load on a bridge, the
sum of the axles that a sensor marked as heavy.
"""

from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, explained, squared_error


class LoadEstimator(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(2, 32, batch_first=True)
        self.head = nn.Linear(32, 1)

    def forward(self, x: Tensor) -> Tensor:
        output, _ = self.rnn(x)
        return self.head(output[:, -1])[:, 0]


def axles(count: int, steps: int = 20) -> tuple[Tensor, Tensor]:
    weight = torch.rand(count, steps)
    heavy = (torch.rand(count, steps) < 0.4).float()
    load = (weight * heavy).sum(1)
    return torch.stack((weight, heavy), dim=2), load - 4


def step(model: nn.Module, optimizer: torch.optim.Optimizer, batch: Any) -> Tensor:
    optimizer.zero_grad()
    loss = squared_error(model, batch)
    loss.backward()
    optimizer.step()
    return loss


def step_and_decay(model: nn.Module, optimizer: torch.optim.Optimizer, batch: Any) -> Tensor:
    loss = step(model, optimizer, batch)
    for group in optimizer.param_groups:
        group["lr"] *= 0.8
    return loss


def optimizer_of(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.Adam(model.parameters(), lr=0.005)


def make(faulty: bool) -> Case:
    batches = batched(*axles(32 * 52))
    train, test = batches[:44], batches[44:]
    training_step = step_and_decay if faulty else step

    def fit(model: nn.Module) -> None:
        optimizer = optimizer_of(model)
        for _ in range(12):
            for i in torch.randperm(len(train)).tolist():
                training_step(model, optimizer, train[i])

    return Case(
        LoadEstimator(),
        train,
        squared_error,
        fit,
        lambda model: explained(model, test),
        chance=0.0,
        good=0.85,
        accept={"right": {"step size", "undertrained"}, "partly": {"not trained"}}
        if faulty
        else {"healthy"},
        options=lambda model: {"optimizer": optimizer_of, "training_step": training_step},
    )
