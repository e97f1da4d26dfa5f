"""Tomorrow's direction of a random walk is to be predicted from the last 20 days.

Source: ichi.pro, "No, LSTM cannot predict stock prices", and deneb.click/blog/lstm.
"""

import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.doctor.field_case import Case


class StockLSTM(nn.Module):
    """An LSTM over a window of returns and volumes."""

    def __init__(self, n_features=2, hidden_dim=16, num_layers=1):
        super().__init__()
        self.lstm = nn.LSTM(n_features, hidden_dim, num_layers, batch_first=True)
        self.fc = nn.Linear(hidden_dim, 1)

    def forward(self, window):
        out, _ = self.lstm(window)
        return self.fc(out[:, -1]).squeeze(-1)


def market(days, momentum):
    """Return daily returns, standardised, with or without momentum, and volumes."""
    noise = torch.randn(days)
    returns = torch.zeros(days)
    trend = 0.0
    for day in range(days):
        returns[day] = noise[day] + momentum * trend
        trend = 0.8 * trend + 0.2 * float(returns[day])
    return torch.stack([returns / returns.std(), torch.randn(days)], 1)


def loader(table, lookback=20, batch_size=32):
    """Return shuffled batches of windows and of the next day's direction."""
    windows = table.unfold(0, lookback, 1)[:-1].transpose(1, 2)
    up = (table[lookback:, 0] > 0).float()
    order = torch.randperm(len(up)).split(batch_size)
    return [(windows[i], up[i]) for i in order if len(i) == batch_size]


def criterion(model, batch):
    """The binary cross-entropy of the direction."""
    window, up = batch
    return F.binary_cross_entropy_with_logits(model(window), up)


def make(faulty: bool) -> Case:
    """Return the program; the returns of the faulty one are independent."""
    table = market(2600, momentum=0.0 if faulty else 0.9)
    batches, held_out = loader(table[:1400])[:40], loader(table[1400:])

    def fit(model):
        optimizer = torch.optim.Adam(model.parameters(), lr=0.003)
        model.train()
        for _ in range(6):
            for batch in batches:
                optimizer.zero_grad()
                criterion(model, batch).backward()
                optimizer.step()

    def score(model):
        with torch.no_grad():
            hits = [((model(x) > 0) == (y > 0.5)).float().mean() for x, y in held_out]
        return float(sum(hits) / len(hits))

    return Case(
        StockLSTM(),
        batches,
        criterion,
        fit,
        score,
        chance=0.5,
        good=0.63,
        accept={"right": {"no dependence found"}, "partly": set()}
        if faulty
        else {"healthy", "no long dependency"},
    )
