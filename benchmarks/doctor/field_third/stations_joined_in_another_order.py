"""The features are sorted by station and the yields are not, so that each row has another's yield.

Source: kind: keras-team/keras-preprocessing issue 66, targets that do not belong to their windows.
Data: fourteen weeks of weather for each station, and its yield.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, forecaster


class Yield(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(3, 20, batch_first=True, bidirectional=True)
        self.fc = nn.Linear(40, 1)

    def forward(self, weather: Tensor) -> Tensor:
        _, (h_n, _) = self.lstm(weather)
        return self.fc(torch.cat((h_n[0], h_n[1]), 1))[:, 0]


def stations(count: int, weeks: int) -> tuple[Tensor, Tensor]:
    weather = torch.randn(count, weeks, 3)
    grown = torch.relu(weather[..., 0]) * (weather[..., 1] > -0.5)
    return weather, (grown.sum(1) - 4) / 2


def make(faulty: bool) -> Case:
    weather, harvest = stations(32 * 44, 14)
    number = torch.randperm(32 * 36)
    known = weather[: 32 * 36]
    joined = known[number.argsort()] if faulty else known
    train = batched(joined, harvest[: 32 * 36])
    test = batched(weather[32 * 36 :], harvest[32 * 36 :])
    return forecaster(
        Yield(),
        train,
        test,
        {"right": {"no dependence found"}, "partly": {"target meets other answers"}}
        if faulty
        else {"healthy", "no long dependency"},
        epochs=10,
        lr=0.005,
        good=0.8,
    )
