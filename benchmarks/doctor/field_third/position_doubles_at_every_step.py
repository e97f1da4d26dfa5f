"""An own cell adds its update to the state without squashing, and the state grows at every step.

Source: An-Yuhang-ace/VesselTrajectoryPrediction issue 4 and Marcovaldong/lstmp.pytorch issue 2,
losses that become nan. Data: drifts of a vessel; the target is where it ends.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, explained, fit, squared_error


class Vessel(nn.Module):
    def __init__(self, squash: bool) -> None:
        super().__init__()
        self.x2h = nn.Linear(2, 24)
        self.h2h = nn.Linear(24, 24)
        self.fc = nn.Linear(24, 2)
        nn.init.eye_(self.h2h.weight)
        nn.init.normal_(self.x2h.weight, std=0.05)
        self.squash = squash

    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(len(x), 24)
        for t in range(x.shape[1]):
            update = self.x2h(x[:, t]) + self.h2h(h)
            h = torch.tanh(update) if self.squash else h + update
        return self.fc(h)


def drifts(count: int, steps: int) -> tuple[Tensor, Tensor]:
    x = torch.randn(count, steps, 2)
    return x, 0.3 * x.sum(1)


def make(faulty: bool) -> Case:
    batches = batched(*drifts(32 * 40, 40))
    train, test = batches[:32], batches[32:]
    return Case(
        Vessel(squash=not faulty),
        train,
        squared_error,
        lambda model: fit(model, train, squared_error, epochs=12, lr=0.003, clip=5.0),
        lambda model: explained(model, test),
        chance=0.0,
        good=0.8,
        accept={"right": {"exploding gradient"}, "partly": {"step size"}}
        if faulty
        else {"healthy", "no long dependency"},
    )
