"""Quotes of about thirty thousand go to a GRU without scaling.

Source: austineaero/Remaining-Useful-Life-RUL-Estimation issue 19 and
pusj/LSTM-Time-Series-Analysis-using-Tensorflow issue 3, advice to scale the data. The target is the
move since the opening in standard units.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, forecaster


class QuoteModel(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(2, 32, batch_first=True)
        self.fc = nn.Linear(32, 1)

    def forward(self, x: Tensor) -> Tensor:
        _, h_n = self.gru(x)
        return self.fc(h_n[-1])[:, 0]


def quotes(count: int, steps: int) -> tuple[Tensor, Tensor]:
    level = torch.randn(count, steps)
    volume = torch.rand(count, steps)
    return torch.stack((level, volume), -1), (level * volume).sum(1) / 2


def make(faulty: bool) -> Case:
    x, y = quotes(32 * 44, 15)
    if faulty:
        x = x * torch.tensor([9000.0, 60000.0]) + torch.tensor([31000.0, 0.0])
    batches = batched(x, y)
    return forecaster(
        QuoteModel(),
        batches[:36],
        batches[36:],
        {"right": {"inputs not scaled"}, "partly": {"saturated"}}
        if faulty
        else {"healthy", "no long dependency"},
        epochs=14,
        good=0.8,
    )
