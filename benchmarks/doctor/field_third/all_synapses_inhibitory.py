"""A rate network's input weights are all drawn negative, so that no rectified unit ever fires.

Source: kind: chatpaper.com 8508, rate networks of rectified units with signed weights; the sign of
the excitatory part was lost. The inputs are firing rates, never negative.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, forecaster


class RateNetwork(nn.Module):
    def __init__(self, inhibitory: bool) -> None:
        super().__init__()
        self.input = nn.Linear(3, 32)
        self.recurrent = nn.Linear(32, 32, bias=False)
        self.readout = nn.Linear(32, 1)
        nn.init.uniform_(self.input.weight, -0.6, 0.0 if inhibitory else 0.6)
        nn.init.zeros_(self.input.bias)
        nn.init.orthogonal_(self.recurrent.weight)

    def forward(self, x: Tensor) -> Tensor:
        rate = x.new_zeros(len(x), 32)
        for t in range(x.shape[1]):
            drive = torch.relu(self.input(x[:, t]) + self.recurrent(rate))
            rate = 0.8 * rate + 0.2 * drive
        return self.readout(rate)


def evidence(count: int, steps: int) -> tuple[Tensor, Tensor]:
    x = torch.rand(count, steps, 3)
    weights = torch.tensor([1.0, -1.0, 0.0])
    return x, (x @ weights).mean(1, keepdim=True) * 5


def make(faulty: bool) -> Case:
    batches = batched(*evidence(32 * 40, 16))
    return forecaster(
        RateNetwork(inhibitory=faulty),
        batches[:32],
        batches[32:],
        {"right": {"dead units"}, "partly": {"gradient cut", "vanishing gradient"}}
        if faulty
        else {"healthy", "no long dependency"},
        epochs=12,
        lr=0.005,
        good=0.8,
    )
