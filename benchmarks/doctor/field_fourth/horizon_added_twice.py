"""The index of the target contains the horizon twice: the target lies beyond what can be foreseen.

Source: https://github.com/cmf-team/importance-sampling-2022/issues/53 and
https://github.com/keras-team/keras-preprocessing/issues/66
Data: a demand that follows the orders with a delay of eight hours, and is else random.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, forecaster

WINDOW, HORIZON, DELAY = 16, 6, 8


class DemandGRU(nn.Module):
    """A GRU over a window of orders and demand."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(2, 24, batch_first=True)
        self.fc = nn.Linear(24, 1)

    def forward(self, window: Tensor) -> Tensor:
        return self.fc(self.gru(window)[0][:, -1]).squeeze(-1)


def windows(table: Tensor, horizon: int, count: int) -> tuple[Tensor, Tensor]:
    """Windows of the table, and the demand `horizon` hours after their last hour."""
    starts = torch.randperm(len(table) - WINDOW - 2 * HORIZON)[:count]
    inputs = torch.stack([table[s : s + WINDOW] for s in starts.tolist()])
    return inputs, table[starts + WINDOW - 1 + horizon, 1]


def make(faulty: bool) -> Case:
    orders = torch.randn(4000)
    demand = orders.roll(DELAY) + 0.1 * torch.randn(4000)
    table = torch.stack([orders, demand], -1)
    train = windows(table[:3000], 2 * HORIZON if faulty else HORIZON, 1024)
    return forecaster(
        DemandGRU(),
        batched(*train),
        batched(*windows(table[3000:], HORIZON, 256)),
        {
            "right": {"no dependence found"},
            "partly": {"answer at the wrong step", "target meets other answers"},
        }
        if faulty
        else {"healthy", "no long dependency"},
        epochs=14,
    )
