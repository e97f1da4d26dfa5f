"""A homing model keeps its hidden state from one batch of drives to the next.

Source: keras-team/keras issues 1820 and 7212, stateful layers on shuffled batches. Data: positions
on two axes; the target is where the drive started.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, forecaster


class Homing(nn.Module):
    def __init__(self, stateful: bool) -> None:
        super().__init__()
        self.lstm = nn.LSTM(2, 32, batch_first=True)
        self.fc = nn.Linear(32, 2)
        self.stateful = stateful
        self.state: tuple[Tensor, Tensor] | None = None

    def forward(self, position: Tensor) -> Tensor:
        out, (h, c) = self.lstm(position, self.state)
        if self.stateful:
            self.state = (h.detach(), c.detach())
        return self.fc(out)


def drives(count: int, steps: int) -> tuple[Tensor, Tensor]:
    position = (torch.randn(count, steps, 2) * 0.7).cumsum(1) + torch.randn(count, 1, 2)
    return position, position[:, :1].expand(-1, steps, -1).contiguous()


def make(faulty: bool) -> Case:
    batches = batched(*drives(32 * 44, 14))
    return forecaster(
        Homing(stateful=faulty),
        batches[:36],
        batches[36:],
        {"right": {"state leak"}, "partly": {"samples mixed"}} if faulty else {"healthy"},
        epochs=14,
        good=0.9,
    )
