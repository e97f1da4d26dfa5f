"""Readings of shape (hour, station, feature) are viewed as (station, hour, feature).

Source: discuss.pytorch.org 98896, a straight line as forecast; kind: `view` in place of
`transpose`. The target of a station is its largest reading of the day.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, forecaster


class DayMaximum(nn.Module):
    def __init__(self, view: bool) -> None:
        super().__init__()
        self.gru = nn.GRU(2, 24, batch_first=True)
        self.fc = nn.Linear(24, 1)
        self.view = view

    def forward(self, readings: Tensor) -> Tensor:
        hours, stations, features = readings.shape
        x = readings.view(stations, hours, features) if self.view else readings.transpose(0, 1)
        _, h_n = self.gru(x)
        return self.fc(h_n[0])


def day(stations: int, hours: int) -> tuple[Tensor, Tensor]:
    x = torch.randn(hours, stations, 2)
    return x, 2 * x[..., :1].amax(0) - 3


def make(faulty: bool) -> Case:
    batches = [day(32, 16) for _ in range(46)]
    return forecaster(
        DayMaximum(view=faulty),
        batches[:38],
        batches[38:],
        {"right": {"samples mixed", "time and batch swapped"}, "partly": set()}
        if faulty
        else {"healthy", "no long dependency"},
        epochs=12,
        good=0.85,
    )
