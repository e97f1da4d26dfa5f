"""A trajectory model is trained for one epoch where it needs a dozen.

Source: sktime/pytorch-forecasting issue 1, "the network has probably not trained for long enough",
and discuss.pytorch.org 98896 with few epochs at a small rate. Data: signs of turns, of which the
marked ones count.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, forecaster


class Turns(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(2, 32, batch_first=True)
        self.head = nn.Linear(32, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lstm(x)[0][:, -1])[:, 0]


def turns(count: int, steps: int) -> tuple[Tensor, Tensor]:
    turn = torch.randn(count, steps)
    marked = (torch.rand(count, steps) < 0.3).float()
    return torch.stack((turn, marked), -1), 0.5 * (turn * marked).sum(1)


def make(faulty: bool) -> Case:
    batches = batched(*turns(32 * 48, 20))
    return forecaster(
        Turns(),
        batches[:40],
        batches[40:],
        {"right": {"undertrained"}, "partly": {"step size"}}
        if faulty
        else {"healthy", "no long dependency"},
        epochs=1 if faulty else 20,
        lr=0.005,
        good=0.85,
    )
