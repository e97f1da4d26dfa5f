"""A GRU reads all 96 minutes of a course, where each eighth would do.

Source: chentuochao/Sound_Bubble issue 4, advice to shorten the sequence for the LSTM; kind:
discuss.pytorch.org 98896, flat forecasts. The soil is shown at first; the discharge answers it at
the end.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, forecaster


class Discharge(nn.Module):
    def __init__(self, stride: int) -> None:
        super().__init__()
        self.gru = nn.GRU(3, 20, batch_first=True)
        self.fc = nn.Linear(20, 1)
        self.stride = stride

    def forward(self, minutes: Tensor) -> Tensor:
        return self.fc(self.gru(minutes[:, :: self.stride])[0][:, -1])[:, 0]


def courses(count: int, steps: int) -> tuple[Tensor, Tensor]:
    x = 0.5 * torch.randn(count, steps, 3)
    soil = torch.randn(count)
    x[:, :8, 0], x[:, :8, 1] = soil[:, None], 2
    return x, soil


def make(faulty: bool) -> Case:
    batches = batched(*courses(32 * 40, 96))
    return forecaster(
        Discharge(1 if faulty else 8),
        batches[:32],
        batches[32:],
        {"right": {"vanishing gradient"}, "partly": {"forgetting"}} if faulty else {"healthy"},
        epochs=10,
        good=0.7,
    )
