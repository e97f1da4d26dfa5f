"""The rows of a series are shuffled (train_test_split) before the windows are cut.

Source: Rebuilt, no single thread: train_test_split(shuffle=True) before the windows.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, forecaster


class Forecaster(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(1, 32, batch_first=True)
        self.fc = nn.Linear(32, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.lstm(x)[0][:, -1]).squeeze(1)


def make(faulty: bool) -> Case:
    def windows(count: int, start: int) -> list[tuple[Tensor, Tensor]]:
        """Windows of 20 values of two waves, and the values after them."""
        time = torch.arange(start, start + count + 20).float()
        series = torch.sin(time / 3) + torch.sin(time / 7.1)
        if faulty:
            series = series[torch.randperm(len(series))]
        window = series.unfold(0, 21, 1)[torch.randperm(count)]
        return batched(window[:, :-1, None], window[:, -1])

    nothing = {"right": {"no dependence found"}, "partly": set[str]()}
    return forecaster(
        Forecaster(),
        windows(1024, 0),
        windows(512, 2000),
        nothing if faulty else {"healthy", "no long dependency"},
    )
