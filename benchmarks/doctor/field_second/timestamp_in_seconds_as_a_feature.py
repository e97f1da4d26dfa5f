"""One of four features is the time in seconds since 1970, about 1.7e9.

Source: kind: discuss.pytorch.org and stats.stackexchange threads on a constant answer of an LSTM
for all inputs. The other features do not count beside it; the healthy program counts from the
start.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, classifier


class MachineState(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(4, 24, batch_first=True)
        self.out = nn.Linear(24, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.rnn(x)[1][0])


def machines(count: int, steps: int, absolute: bool) -> tuple[Tensor, Tensor]:
    """Return three readings and a time, and the number of the valve that opened."""
    readings, y = 0.5 * torch.randn(count, steps, 3), torch.randint(3, (count,))
    opened = torch.randint(2, steps // 2, (count,))
    readings[torch.arange(count), opened, y] += 3
    seconds = 10.0 * torch.arange(steps).expand(count, -1)
    start = 1.7e9 + 1e7 * torch.rand(count, 1)
    time = start + seconds if absolute else seconds / 200
    return torch.cat((readings, time[..., None]), 2), y


def make(faulty: bool) -> Case:
    batches = batched(*machines(32 * 44, 24, absolute=faulty))
    return classifier(
        MachineState(),
        batches[:36],
        batches[36:],
        {"right": {"inputs not scaled"}, "partly": {"saturated"}} if faulty else {"healthy"},
        epochs=14,
        classes=3,
    )
