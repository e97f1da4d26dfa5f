"""The rows of a table are shuffled by train_test_split before the windows are cut.

Source: deeplearning.ai community 384140, "Shuffle in time series", and GitHub
driving-behavior/DBNet#6, "problem about your lstm block".
"""

import torch
from torch import nn

from benchmarks.doctor.field_case import Case, batched, explained, fit, squared_error


class Forecaster(nn.Module):
    """Two LSTM layers over a window of two sensors."""

    def __init__(self, n_features=2, hidden=20):
        super().__init__()
        self.lstm1 = nn.LSTM(n_features, hidden, batch_first=True)
        self.lstm2 = nn.LSTM(hidden, hidden, batch_first=True)
        self.linear = nn.Linear(hidden, 1)

    def forward(self, window):
        out, _ = self.lstm1(window)
        _, (h, _) = self.lstm2(out)
        return self.linear(h[-1])


def power(hours):
    """Return the load and the temperature of each hour, both standardised."""
    t = torch.arange(float(hours))
    temperature = torch.sin(2 * torch.pi * t / 24) + 0.2 * torch.randn(hours)
    load = (
        torch.sin(2 * torch.pi * t / 12 + 1) + 0.8 * temperature.roll(3) + 0.1 * torch.randn(hours)
    )
    table = torch.stack([load, temperature], 1)
    return (table - table.mean(0)) / table.std(0)


def to_sequences(table, lookback=16):
    """Return windows of the table and the load of the next row, in a random order."""
    x = table.unfold(0, lookback, 1)[:-1].transpose(1, 2)
    y = table[lookback:, :1]
    order = torch.randperm(len(x))
    return x[order], y[order]


def make(faulty: bool) -> Case:
    """Return the program; the faulty one shuffles the hours first."""
    table = power(1600)
    if faulty:
        table = table[torch.randperm(len(table))]
    batches = batched(*to_sequences(table[:1200]))
    held_out = batched(*to_sequences(table[1200:]))
    return Case(
        Forecaster(),
        batches,
        squared_error,
        lambda model: fit(model, batches, squared_error, epochs=10, lr=0.005),
        lambda model: explained(model, held_out),
        chance=0.0,
        good=0.8,
        accept={"right": {"no dependence found"}, "partly": set()}
        if faulty
        else {"healthy", "no long dependency"},
    )
