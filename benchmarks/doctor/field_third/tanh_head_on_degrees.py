"""A forecaster's head ends in tanh, and the temperatures, in tens of degrees, lie above one.

Source: kind: stackguides.com 51432661 and keras-team/keras issue 1727, an activation after the last
layer and constant predictions. The target is the mean of the warm hours, told by a flag.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, forecaster


class Afternoon(nn.Module):
    def __init__(self, tanh: bool) -> None:
        super().__init__()
        self.rnn = nn.GRU(2, 24, num_layers=2, batch_first=True)
        layers: list[nn.Module] = [nn.Linear(24, 1)]
        if tanh:
            layers.append(nn.Tanh())
        self.head = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(x)[0][:, -1])


def days(count: int, steps: int) -> tuple[Tensor, Tensor]:
    anomaly = torch.randn(count, steps)
    warm = (torch.rand(count, steps) < 0.5).float()
    degrees = 3 + 0.3 * (anomaly * warm).sum(1, keepdim=True)
    return torch.stack((anomaly, warm), -1), degrees


def make(faulty: bool) -> Case:
    batches = batched(*days(32 * 44, 14))
    return forecaster(
        Afternoon(tanh=faulty),
        batches[:36],
        batches[36:],
        {"right": {"answers do not fit the loss"}, "partly": {"inputs not scaled", "saturated"}}
        if faulty
        else {"healthy", "no long dependency"},
        epochs=12,
        good=0.8,
    )
