"""The window of a forecaster ends with the value that it has to forecast.

Source: irenekarijadi/RF-LSTM-CEEMDAN, issue 1, and spawnaga/market_direction_prediction, issue 1,
"Possible data leakage?": a shift by one row. Scored on forecasts of values outside the window.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, explained, fit, squared_error


class PriceModel(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(1, 24, batch_first=True)
        self.drop = nn.Dropout(0.1)
        self.linear = nn.Linear(24, 1)

    def forward(self, x: Tensor) -> Tensor:
        _, (h, _) = self.lstm(x)
        return self.linear(self.drop(h[-1]))


def series(steps: int) -> Tensor:
    """A seasonal series: a sum of two oscillations with slowly changing amplitudes, and noise."""
    t = torch.arange(float(steps))
    slow = 1 + 0.5 * (t / 90).sin()
    values = slow * (6.2832 * t / 5).sin() + (6.2832 * t / 11 + 1).sin()
    return (values + 0.15 * torch.randn(steps)) / 1.1


def windows(values: Tensor, length: int, ahead: int) -> tuple[Tensor, Tensor]:
    x = values.unfold(0, length, 1)
    x, y = x[: len(x) - ahead, :, None], values[length - 1 + ahead :, None]
    order = torch.randperm(len(x))
    return x[order], y[order]


def make(faulty: bool) -> Case:
    values = series(1600)
    train = batched(*windows(values[:1200], 20, ahead=0 if faulty else 1))
    test = batched(*windows(values[1200:], 20, ahead=1))
    return Case(
        PriceModel(),
        train,
        squared_error,
        lambda model: fit(model, train, squared_error, epochs=12),
        lambda model: explained(model, test),
        chance=0.0,
        good=0.85,
        accept={"right": {"target seen"}, "partly": {"no long dependency"}}
        if faulty
        else {"healthy", "no long dependency"},
    )
