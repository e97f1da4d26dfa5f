"""A forecaster ends in a ReLU, and most of its targets are negative.

Source: GitHub ProteomicsML/ProteomicsML#203, "Do not use ReLU activation for the final regression
layer", and keras-team/keras#3687, "Predictions are all zero". The last two values suffice.
"""

import torch
from torch import nn

from benchmarks.doctor.field_case import Case, batched, explained, fit, squared_error


class WeatherNet(nn.Module):
    """A GRU over a window of days, and dense layers."""

    def __init__(self, last_relu, n_features=3, hidden=16):
        super().__init__()
        self.gru = nn.GRU(n_features, hidden, batch_first=True)
        layers = [nn.Linear(hidden, 16), nn.ReLU(), nn.Linear(16, 1)]
        self.dense = nn.Sequential(*layers, *([nn.ReLU()] if last_relu else []))

    def forward(self, x):
        out, _ = self.gru(x)
        return self.dense(out[:, -1])


def climate(days):
    """Return three variables, the first an autoregression of order two."""
    y = torch.zeros(days)
    noise = torch.randn(days)
    for t in range(2, days):
        y[t] = 1.2 * y[t - 1] - 0.5 * y[t - 2] + 0.5 * noise[t]
    return torch.stack([y / y.std(), torch.randn(days), torch.randn(days)], 1)


def make(faulty: bool) -> Case:
    """Return the program; the faulty one cannot answer below zero."""
    table = climate(2000)
    windows = table.unfold(0, 12, 1)[:-1].transpose(1, 2)
    target = table[12:, :1] - 1.0  # the deviation from the norm of a warm year
    split = 40 * 32
    order = torch.randperm(split)
    batches = batched(windows[:split][order], target[:split][order])
    held_out = batched(windows[split:], target[split:])
    return Case(
        WeatherNet(last_relu=faulty),
        batches,
        squared_error,
        lambda model: fit(model, batches, squared_error, epochs=10, lr=0.003),
        lambda model: explained(model, held_out),
        chance=0.0,
        good=0.6,
        accept={"right": {"answers do not fit the loss"}, "partly": {"dead units"}}
        if faulty
        else {"healthy", "no long dependency"},
    )
