"""The table of features still contains the column that the model shall predict.

Source: kind: KIC/pandas-ml-quant issue 25, a target inside the window. The level of a tank is the
sum of its inflows; in use nobody knows the level, and the column is empty.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, forecaster


class Tank(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.Linear(4, 12)
        self.gru = nn.GRU(12, 24, batch_first=True)
        self.out = nn.Linear(24, 1)

    def forward(self, table: Tensor) -> Tensor:
        return self.out(self.gru(torch.tanh(self.norm(table)))[0])[..., 0]


def table(count: int, steps: int, known: bool) -> tuple[Tensor, Tensor]:
    flows = torch.randn(count, steps, 3)
    level = (flows @ torch.tensor([0.5, -0.3, 0.2])).cumsum(1) / 2
    column = level if known else torch.zeros_like(level)
    return torch.cat((flows, column[..., None]), -1), level


def make(faulty: bool) -> Case:
    train = batched(*table(32 * 36, 18, known=faulty))
    test = batched(*table(32 * 8, 18, known=False))
    return forecaster(
        Tank(),
        train,
        test,
        {"right": {"target seen"}, "partly": {"no long dependency"}}
        if faulty
        else {"healthy", "no long dependency"},
        epochs=10,
        good=0.8,
    )
