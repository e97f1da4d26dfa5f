"""A rate network subtracts a firing threshold that no input current reaches: no unit ever fires.

Source: kind: rectifiers that no input drives (theneuralbase.com, "Dead neurons (ReLU)"), in a
network of rectified rates as in models of working memory. Task: keep a direction over a delay.
"""

import math

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, forecaster


class RectifiedRates(nn.Module):
    def __init__(self, threshold: float) -> None:
        super().__init__()
        self.inputs = nn.Linear(3, 48)
        self.recurrent = nn.Linear(48, 48, bias=False)
        self.readout = nn.Linear(48, 2)
        self.threshold = threshold
        nn.init.normal_(self.recurrent.weight, std=1 / 48**0.5)

    def forward(self, x: Tensor) -> Tensor:
        current = x.new_zeros(len(x), 48)
        for t in range(x.shape[1]):
            rates = torch.relu(current - self.threshold)
            current = 0.9 * current + 0.1 * (self.recurrent(rates) + self.inputs(x[:, t]))
        return self.readout(torch.relu(current - self.threshold))


def directions(count: int, steps: int = 30) -> tuple[Tensor, Tensor]:
    angle = 2 * math.pi * torch.rand(count)
    target = torch.stack((angle.cos(), angle.sin()), dim=1)
    x = 0.1 * torch.randn(count, steps, 3)
    x[:, :6, :2] += 2 * target[:, None]
    x[:, -4:, 2] += 1
    return x, target


def make(faulty: bool) -> Case:
    batches = batched(*directions(32 * 36))
    return forecaster(
        RectifiedRates(threshold=5.0 if faulty else 0.0),
        batches[:28],
        batches[28:],
        accept={"right": {"dead units"}, "partly": {"gradient cut", "vanishing gradient"}}
        if faulty
        else {"healthy"},
        epochs=10,
        lr=0.005,
        good=0.85,
    )
