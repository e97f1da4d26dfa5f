"""ReLU on the last layer of a regression whose targets are mostly negative.

Source: Stack Overflow 51432661; Stack Exchange (datascience) 67599.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, forecaster


class Regressor(nn.Module):
    def __init__(self, relu: bool) -> None:
        super().__init__()
        self.relu = relu
        self.rnn = nn.GRU(1, 32, batch_first=True)
        self.fc = nn.Linear(32, 1)

    def forward(self, x: Tensor) -> Tensor:
        out = self.fc(self.rnn(x)[0][:, -1]).squeeze(1)
        return torch.relu(out) if self.relu else out


def temperatures(count: int) -> list[tuple[Tensor, Tensor]]:
    """Changes of temperature, and the temperature that they lead to from -3 degrees."""
    x = 0.5 * torch.randn(count, 15, 1)
    return batched(x, x.sum((1, 2)) - 3)


def make(faulty: bool) -> Case:
    unfit = {"right": {"answers do not fit the loss"}, "partly": {"dead units"}}
    return forecaster(
        Regressor(faulty),
        temperatures(1024),
        temperatures(512),
        unfit if faulty else {"healthy"},
    )
