"""A linear state-space model starts with poles of 1.25, so that state and gradient grow.

Source: pytorch/pytorch issue 2769, explosive growth of the loss in training (kind: an unstable
recurrence). Task: identify a slow plant with one lag from its inputs, at the end of each record.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, forecaster


class StateSpace(nn.Module):
    def __init__(self, pole: float) -> None:
        super().__init__()
        self.poles = nn.Parameter(pole + 0.02 * torch.rand(12))
        self.inputs = nn.Linear(2, 12)
        self.mix = nn.Sequential(nn.Linear(12, 24), nn.Tanh(), nn.Linear(24, 1))

    def forward(self, u: Tensor) -> Tensor:
        state = u.new_zeros(len(u), 12)
        for t in range(u.shape[1]):
            state = self.poles * state + self.inputs(u[:, t])
        return self.mix(state)[:, 0]


def records(count: int, steps: int = 70) -> tuple[Tensor, Tensor]:
    u = torch.randn(count, steps, 2)
    weights = 0.95 ** torch.arange(steps - 1, -1, -1)
    y = (u[..., 0] * weights).sum(1) * (1 - 0.95**2) ** 0.5
    return u, y + 0.05 * torch.randn(count)


def make(faulty: bool) -> Case:
    batches = batched(*records(32 * 40))
    return forecaster(
        StateSpace(1.25 if faulty else 0.9),
        batches[:32],
        batches[32:],
        accept={"right": {"exploding gradient"}, "partly": {"saturated", "step size"}}
        if faulty
        else {"healthy"},
        epochs=8,
        lr=0.005,
        good=0.8,
    )
