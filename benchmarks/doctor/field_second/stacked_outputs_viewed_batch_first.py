"""The outputs of a loop are stacked time-first and then viewed as (batch, horizon, feature).

Source: osm3000/Sequence-Generation-Pytorch issue 3 on the shapes of the sine example (kind: `view`
after `torch.stack`). The forecasts of a sample then stand in the rows of other samples.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, forecaster

PAST, HORIZON = 24, 6


class MultiStepForecaster(nn.Module):
    def __init__(self, viewed: bool) -> None:
        super().__init__()
        self.cell = nn.LSTMCell(1, 32)
        self.out = nn.Linear(32, 1)
        self.viewed = viewed

    def forward(self, past: Tensor) -> Tensor:
        hidden = cell = past.new_zeros(len(past), 32)
        for t in range(PAST):
            hidden, cell = self.cell(past[:, t], (hidden, cell))
        value, forecasts = self.out(hidden), []
        for _ in range(HORIZON):
            forecasts.append(value)
            hidden, cell = self.cell(value, (hidden, cell))
            value = self.out(hidden)
        stacked = torch.stack(forecasts)
        if self.viewed:
            return stacked.view(len(past), HORIZON, 1)
        return stacked.transpose(0, 1)


def tides(count: int) -> tuple[Tensor, Tensor]:
    phase = 6.2832 * torch.rand(count, 1)
    speed = 0.4 + 0.2 * torch.rand(count, 1)
    x = (phase + speed * torch.arange(PAST + HORIZON)).sin()[..., None]
    past = x[:, :PAST] + 0.1 * torch.randn(count, PAST, 1)
    return past, x[:, PAST:]


def make(faulty: bool) -> Case:
    batches = batched(*tides(32 * 40))
    return forecaster(
        MultiStepForecaster(viewed=faulty),
        batches[:32],
        batches[32:],
        accept={"right": {"target meets other answers", "samples mixed"}, "partly": set()}
        if faulty
        else {"healthy", "no long dependency"},
        epochs=14,
        lr=0.006,
        good=0.8,
    )
