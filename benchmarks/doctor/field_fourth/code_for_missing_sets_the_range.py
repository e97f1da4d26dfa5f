"""A reading of 99999 stands for "missing", and min-max scaling takes it for the maximum.

Source: kind: sentinel values before MinMaxScaler in sensor data
Data: the flow into a basin; the target is the difference of the inflow at two earlier hours.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, forecaster

MISSING = 99999.0


class BasinGRU(nn.Module):
    """A GRU over a day of scaled readings, and the level at its end."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(2, 24, batch_first=True)
        self.level = nn.Linear(24, 1)

    def forward(self, readings: Tensor) -> Tensor:
        return self.level(self.gru(readings)[0][:, -1]).squeeze(-1)


def scaled(readings: Tensor, known: Tensor) -> Tensor:
    """The readings mapped to [-1, 1] by the range of those that are known."""
    low, high = readings[known].min(), readings[known].max()
    return (2 * (readings - low) / (high - low) - 1).masked_fill(~known, 0.0)


def make(faulty: bool) -> Case:
    inflow = 12 + 3 * torch.randn(1024 + 256, 16, 2)
    level = (inflow[:, -5, 0] - inflow[:, -9, 0]) / 3
    missing = torch.rand(inflow.shape) < 0.02
    missing[:, [-5, -9]] = False
    readings = inflow.masked_fill(missing, MISSING)
    known = torch.ones_like(missing) if faulty else ~missing
    batches = batched(scaled(readings, known), level)
    return forecaster(
        BasinGRU(),
        batches[:32],
        batches[32:],
        {"right": {"inputs not scaled"}, "partly": {"undertrained", "no dependence found"}}
        if faulty
        else {"healthy", "no long dependency"},
        epochs=30,
    )
