"""Missing readings are filled backwards: the last one of a window is the value to be forecast.

Source: https://github.com/dhopp1/nowcast_lstm/issues/13 (imputation with future values)
Data: a meter whose last two readings are always late; in use they hold the last known value. The
value to be forecast follows the tariff of the window's first step.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, forecaster


class MeterLSTM(nn.Module):
    """An LSTM over readings and tariff signals."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(2, 24, batch_first=True)
        self.out = nn.Linear(24, 1)

    def forward(self, window: Tensor) -> Tensor:
        return self.out(self.lstm(window)[0][:, -1]).squeeze(-1)


def meter(count: int, backward: bool, steps: int = 10) -> tuple[Tensor, Tensor]:
    readings, signal = torch.randn(2, count, steps + 1)
    following = signal[:, 0].clone() + 0.1 * torch.randn(count)
    readings[:, steps] = following
    filled = readings[:, steps] if backward else readings[:, steps - 3]
    readings[:, steps - 2 : steps] = filled[:, None]
    return torch.stack([readings[:, :steps], signal[:, :steps]], -1), following


def make(faulty: bool) -> Case:
    train = batched(*meter(1024, backward=faulty))
    test = batched(*meter(256, backward=False))
    return forecaster(
        MeterLSTM(),
        train,
        test,
        {"right": {"target seen"}, "partly": {"no long dependency"}}
        if faulty
        else {"healthy", "no long dependency"},
        epochs=30,
        good=0.8,
    )
