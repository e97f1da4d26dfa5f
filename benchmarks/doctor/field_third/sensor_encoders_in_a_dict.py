"""The encoders of two sensors stand in a Python dictionary, so that no optimiser sees them.

Source: ikostrikov/pytorch-meta-optimizer issue 11, cells that are not registered. Each encoder
latches the reading at the moment its trigger fires.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, forecaster


class TwoSensors(nn.Module):
    def __init__(self, registered: bool) -> None:
        super().__init__()
        encoders = {name: nn.GRU(2, 20, batch_first=True) for name in ("left", "right")}
        self.encoders = nn.ModuleDict(encoders) if registered else encoders
        self.fc = nn.Linear(40, 1)

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        ends = [self.encoders[name](x)[0][:, -1] for name, x in (("left", left), ("right", right))]
        return self.fc(torch.cat(ends, 1))[:, 0]


def sensor(count: int, steps: int) -> tuple[Tensor, Tensor]:
    reading = torch.randn(count, steps)
    reading[:, 4:] *= 0.5
    trigger = torch.zeros(count, steps)
    at = torch.randint(4, (count,))
    trigger[torch.arange(count), at] = 2
    return torch.stack((reading, trigger), -1), reading[torch.arange(count), at]


def make(faulty: bool) -> Case:
    left, first = sensor(32 * 48, 16)
    right, second = sensor(32 * 48, 16)
    batches = batched(left, right, first - second)
    return forecaster(
        TwoSensors(registered=not faulty),
        batches[:40],
        batches[40:],
        {"right": {"not trained"}, "partly": set()} if faulty else {"healthy"},
        epochs=18,
        lr=0.01,
        good=0.7,
    )
