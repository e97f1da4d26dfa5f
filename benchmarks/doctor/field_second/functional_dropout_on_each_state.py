"""`F.dropout` with its default, always on, drops half of the state at each of 25 steps.

Source: pytorch/pytorch issue 26338, `F.dropout` stays on in evaluation mode. A cell in a loop; the
task is to hold a set point that is shown first.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.doctor.field_case import Case, batched, forecaster


class SetPointHolder(nn.Module):
    def __init__(self, rate: float) -> None:
        super().__init__()
        self.cell = nn.GRUCell(3, 32)
        self.torque = nn.Linear(32, 1)
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        state = x.new_zeros(len(x), 32)
        for t in range(x.shape[1]):
            state = F.dropout(self.cell(x[:, t], state), self.rate)
        return self.torque(state)[:, 0]


def set_points(count: int, steps: int = 25) -> tuple[Tensor, Tensor]:
    point = torch.randn(count)
    x = 0.2 * torch.randn(count, steps, 3)
    x[:, :3, 0] = point[:, None]
    x[:, :3, 1] = 2
    return x, point


def make(faulty: bool) -> Case:
    batches = batched(*set_points(32 * 40))
    return forecaster(
        SetPointHolder(0.5 if faulty else 0.0),
        batches[:32],
        batches[32:],
        accept={"right": {"dropout"}, "partly": {"forgetting"}} if faulty else {"healthy"},
        epochs=16,
        lr=0.008,
        good=0.75,
    )
