"""The table of a data vendor has the newest row first, and the windows are cut from it as it is.

Source: kind: CSV of daily prices in descending order, "LSTM cannot beat the mean"
Data: a spread reacts to the news of four days before, and is else random.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, forecaster

WINDOW, LAG = 10, 4


class SpreadGRU(nn.Module):
    """A GRU over a window of news and spread, and the spread of the next row."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(2, 24, batch_first=True)
        self.spread = nn.Linear(24, 1)

    def forward(self, window: Tensor) -> Tensor:
        return self.spread(self.gru(window)[0][:, -1]).squeeze(-1)


def table(days: int) -> Tensor:
    """Rows of (news, spread), oldest first."""
    news = torch.randn(days)
    return torch.stack([news, news.roll(LAG) + 0.2 * torch.randn(days)], -1)[LAG:]


def windows(rows: Tensor, count: int) -> tuple[Tensor, Tensor]:
    starts = torch.randperm(len(rows) - WINDOW)[:count]
    return torch.stack([rows[s : s + WINDOW] for s in starts.tolist()]), rows[starts + WINDOW, 1]


def make(faulty: bool) -> Case:
    past = table(3000)
    train = windows(past.flip(0) if faulty else past, 1024)
    return forecaster(
        SpreadGRU(),
        batched(*train),
        batched(*windows(table(1000), 256)),
        {"right": {"no dependence found"}, "partly": {"answer at the wrong step"}}
        if faulty
        else {"healthy", "no long dependency"},
        epochs=14,
        good=0.8,
    )
