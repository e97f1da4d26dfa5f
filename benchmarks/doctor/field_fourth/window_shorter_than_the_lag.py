"""The windows hold six hours, and the demand follows what happened nine hours before.

Source: kind: "LSTM predicts the mean", look-back chosen by habit
Data: orders arrive at random; the goods leave nine hours later.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, forecaster

LAG = 9


class Dispatch(nn.Module):
    """A GRU over the hours of a window, and the goods that leave in the next hour."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(2, 24, batch_first=True)
        self.goods = nn.Linear(24, 1)

    def forward(self, window: Tensor) -> Tensor:
        return self.goods(self.gru(window)[0][:, -1]).squeeze(-1)


def make(faulty: bool) -> Case:
    look_back = 6 if faulty else 12
    orders = torch.randint(2, (4000,)) * 2.0 - 1
    goods = orders.roll(LAG) + 0.1 * torch.randn(4000)
    table = torch.stack([orders, goods], -1)
    starts = torch.randperm(4000 - 24)[: 1024 + 256] + 24
    windows = torch.stack([table[s - look_back : s] for s in starts.tolist()])
    batches = batched(windows, goods[starts])
    return forecaster(
        Dispatch(),
        batches[:32],
        batches[32:],
        {"right": {"no dependence found"}, "partly": {"no long dependency"}}
        if faulty
        else {"healthy"},
        epochs=20,
        good=0.8,
    )
