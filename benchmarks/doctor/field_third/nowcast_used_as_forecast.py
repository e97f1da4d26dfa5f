"""A temperature forecaster is trained with the reading of the same hour as its target.

Source: KIC/pandas-ml-quant issue 25, the target repeats one of the inputs, and
keras-team/keras-preprocessing issue 66, on offsets between windows and targets. The readings swing
with a period of four hours, so that a forecast needs the past.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, forecaster


class Temperature(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(1, 32, batch_first=True)
        self.fc = nn.Linear(32, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.lstm(x)[0])


def hours(count: int, steps: int) -> Tensor:
    rhythm = torch.randn(count, 1, 1)
    phase = 6.283 * torch.rand(count, 1, 1)
    time = torch.arange(steps)[None, :, None]
    return torch.sin(6.283 * time / 4 + phase) * (1 + 0.4 * rhythm) + 0.1 * torch.randn(
        count, steps, 1
    )


def make(faulty: bool) -> Case:
    x = hours(32 * 40, 25)
    train = batched(x[: 32 * 32, :-1], x[: 32 * 32, :-1] if faulty else x[: 32 * 32, 1:])
    test = batched(x[32 * 32 :, :-1], x[32 * 32 :, 1:])
    return forecaster(
        Temperature(),
        train,
        test,
        {"right": {"target seen"}, "partly": {"answer at the wrong step", "no long dependency"}}
        if faulty
        else {"healthy", "no long dependency"},
        epochs=6,
        good=0.8,
    )
