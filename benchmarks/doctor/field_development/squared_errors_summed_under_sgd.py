"""SGD with a step of 0.05 under a loss that is summed over batch and steps, not averaged.

Source: kind: discuss.pytorch.org, reduction="sum" makes an LSTM's loss nan or leaves it stuck.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.doctor.field_case import Case, batched, explained


class EchoNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(1, 32, batch_first=True)
        self.out = nn.Linear(32, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.rnn(x)[0])


def echo(count: int) -> list[tuple[Tensor, Tensor]]:
    """The target is the sum of the inputs three and four steps before."""
    x = torch.randn(count, 20, 1)
    y = torch.zeros_like(x)
    y[:, 4:] = (x[:, :-4] + x[:, 1:-3]) / 1.4
    return batched(x, y, size=32)


def make(faulty: bool) -> Case:
    train, test = echo(1280), echo(256)

    def loss(model: nn.Module, batch: Any) -> Tensor:
        x, y = batch
        return F.mse_loss(model(x), y, reduction="sum" if faulty else "mean")

    def step(model: nn.Module, optimizer: torch.optim.Optimizer, batch: Any) -> None:
        optimizer.zero_grad()
        loss(model, batch).backward()
        optimizer.step()

    def sgd(model: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.SGD(model.parameters(), lr=0.2, momentum=0.9)

    def fit(model: nn.Module) -> None:
        optimizer = sgd(model)
        for _ in range(20):
            for batch in train:
                step(model, optimizer, batch)

    return Case(
        EchoNet(),
        train,
        loss,
        fit,
        lambda m: explained(m, test),
        0.0,
        0.6,
        {"right": {"step size"}, "partly": {"exploding gradient", "saturated"}}
        if faulty
        else {"healthy", "no long dependency"},
        lambda m: {"training_step": step, "optimizer": sgd},
    )
