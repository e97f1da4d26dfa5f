"""A window of three standardised sensors forecasts a load in kilowatts: about 3000, never scaled.

Source: kind: keras issue 1727 and others, an LSTM that always predicts the same value.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, forecaster


class LoadForecaster(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(3, 24, num_layers=2, batch_first=True)
        self.head = nn.Sequential(nn.Linear(24, 24), nn.ReLU(), nn.Linear(24, 1))

    def forward(self, window: Tensor) -> Tensor:
        return self.head(self.lstm(window)[0][:, -1]).squeeze(-1)


def windows(count: int, scale: float, shift: float) -> list[tuple[Tensor, Tensor]]:
    """Windows of one long series of sensors; the load is their sum ten steps before the end."""
    series = torch.randn(count + 16, 3)
    for t in range(1, len(series)):
        series[t] = 0.7 * series[t - 1] + 0.7 * series[t]
    x = series.unfold(0, 16, 1).transpose(1, 2)[:count]
    y = shift + scale * x[:, 5].sum(1) / 2
    order = torch.randperm(count)
    return batched(x[order], y[order], size=32)


def make(faulty: bool) -> Case:
    scale, shift = (600.0, 3000.0) if faulty else (1.0, 0.0)
    return forecaster(
        LoadForecaster(),
        windows(1280, scale, shift),
        windows(256, scale, shift),
        {
            "right": {"answers do not fit the loss", "inputs not scaled"},
            "partly": {"undertrained", "step size"},
        }
        if faulty
        else {"healthy"},
        epochs=25,
        good=0.85,
    )
