"""A minimal gated cell starts with an update-gate bias of +10, so that it rewrites all its state.

Source: discuss.pytorch.org 117004, on a custom gated cell (kind: a gate stuck by its bias). The
target is the valve setting that was commanded at the start of the run.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, forecaster


class MinimalGatedUnit(nn.Module):
    def __init__(self, inputs: int, size: int, bias: float) -> None:
        super().__init__()
        self.gate = nn.Linear(inputs + size, size)
        self.candidate = nn.Linear(inputs + size, size)
        nn.init.constant_(self.gate.bias, bias)

    def forward(self, x: Tensor, state: Tensor) -> Tensor:
        update = torch.sigmoid(self.gate(torch.cat((x, state), dim=1)))
        new = torch.tanh(self.candidate(torch.cat((x, update * state), dim=1)))
        return (1 - update) * state + update * new


class ValveModel(nn.Module):
    def __init__(self, bias: float) -> None:
        super().__init__()
        self.cell = MinimalGatedUnit(3, 32, bias)
        self.head = nn.Linear(32, 1)

    def forward(self, x: Tensor) -> Tensor:
        state = x.new_zeros(len(x), 32)
        for t in range(x.shape[1]):
            state = self.cell(x[:, t], state)
        return self.head(state)[:, 0]


def runs(count: int, steps: int = 50) -> tuple[Tensor, Tensor]:
    setting = torch.randn(count)
    x = 0.5 * torch.randn(count, steps, 3)
    x[:, :, 2] = 0
    x[:, :3, 1] = setting[:, None]
    x[:, :3, 2] = 3
    return x, setting


def make(faulty: bool) -> Case:
    batches = batched(*runs(32 * 40))
    return forecaster(
        ValveModel(bias=10.0 if faulty else -2.0),
        batches[:32],
        batches[32:],
        accept={"right": {"forgetting", "saturated"}, "partly": {"vanishing gradient"}}
        if faulty
        else {"healthy"},
        epochs=10,
        lr=0.006,
        good=0.8,
    )
