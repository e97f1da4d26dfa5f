"""A decoder's answers are stacked step by step and viewed as (sample, step).

Source: kind: discuss.pytorch.org 159152 and 98896, flat forecasts of an LSTM. An encoder reads the
past of an oscillation, and a cell in a loop forecasts the next six values; the stack has the step
first.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, forecaster


class Forecaster(nn.Module):
    def __init__(self, view: bool) -> None:
        super().__init__()
        self.encoder = nn.GRU(1, 24, batch_first=True)
        self.cell = nn.GRUCell(1, 24)
        self.out = nn.Linear(24, 1)
        self.view = view

    def forward(self, past: Tensor) -> Tensor:
        _, h_n = self.encoder(past)
        state, value = h_n[0], past[:, -1]
        values = []
        for _ in range(6):
            state = self.cell(value, state)
            value = self.out(state)
            values.append(value)
        stacked = torch.stack(values)
        if self.view:
            return stacked.view(len(past), 6)
        return stacked.squeeze(-1).t()


def oscillations(count: int) -> tuple[Tensor, Tensor]:
    time = torch.arange(26)
    period = 8 + 8 * torch.rand(count, 1)
    phase = 6.3 * torch.rand(count, 1)
    x = torch.sin(6.283 * time / period + phase) + 0.03 * torch.randn(count, 26)
    return x[:, :20, None], x[:, 20:].contiguous()


def make(faulty: bool) -> Case:
    batches = batched(*oscillations(32 * 40))
    return forecaster(
        Forecaster(view=faulty),
        batches[:32],
        batches[32:],
        {
            "right": {"samples mixed", "time and batch swapped"},
            "partly": {"target meets other answers"},
        }
        if faulty
        else {"healthy", "no long dependency"},
        epochs=10,
        good=0.85,
    )
