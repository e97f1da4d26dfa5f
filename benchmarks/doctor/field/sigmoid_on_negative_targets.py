"""A forecaster ends in a sigmoid, and its targets are voltages from -3 to 3.

Source: jaungiers/LSTM-Neural-Network-for-Time-Series-Prediction, issue 56, "Predictions are
truncated to -1 and 1".
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, explained, fit, squared_error


class Forecaster(nn.Module):
    def __init__(self, hidden: int, activation: nn.Module) -> None:
        super().__init__()
        self.hidden = hidden
        self.cell = nn.GRUCell(1, hidden)
        self.head = nn.Sequential(nn.Linear(hidden, 16), nn.ReLU(), nn.Linear(16, 1), activation)

    def forward(self, window: Tensor) -> Tensor:
        h = window.new_zeros(window.size(0), self.hidden)
        for t in range(window.size(1)):
            h = self.cell(window[:, t], h)
        return self.head(h)


def windows(count: int, length: int) -> tuple[Tensor, Tensor]:
    """Oscillations, each with its own period, so that one value says little on the next."""
    t = torch.arange(length + 1.0)
    period = 6 + 14 * torch.rand(count, 1)
    phase = 6.3 * torch.rand(count, 1)
    series = (6.2832 * t / period + phase).sin() + 0.1 * torch.randn(count, length + 1)
    series = 2.5 * series
    return series[:, :length, None], series[:, length:]


def make(faulty: bool) -> Case:
    batches = batched(*windows(32 * 40, 24))
    train, test = batches[:32], batches[32:]
    return Case(
        Forecaster(24, nn.Sigmoid() if faulty else nn.Identity()),
        train,
        squared_error,
        lambda model: fit(model, train, squared_error, epochs=12),
        lambda model: explained(model, test),
        chance=0.0,
        good=0.9,
        accept={"right": {"answers do not fit the loss"}, "partly": set()}
        if faulty
        else {"healthy", "no long dependency"},
    )
