"""A critic's single value goes through a softmax, which makes it one at every step.

Source: kind: discuss.pytorch.org 31023, a recurrent agent that does not learn; a softmax on one
unit is the usual copy from a policy head. Data: walks whose reward at the end is signed by a cue.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, forecaster


class Critic(nn.Module):
    def __init__(self, softmax: bool) -> None:
        super().__init__()
        self.observe = nn.Linear(4, 16)
        self.lstm = nn.LSTM(16, 24, batch_first=True)
        self.value = nn.Linear(24, 1)
        self.softmax = softmax

    def forward(self, observations: Tensor) -> Tensor:
        out, _ = self.lstm(torch.relu(self.observe(observations)))
        value = self.value(out)
        if self.softmax:
            value = torch.softmax(value, -1)
        return value.squeeze(-1)


def walks(count: int, steps: int) -> tuple[Tensor, Tensor]:
    observations = 0.3 * torch.randn(count, steps, 4)
    sign = torch.randint(2, (count,)) * 2.0 - 1
    observations[:, :2, 0] += 2 * sign[:, None]
    discount = 0.97 ** torch.arange(steps - 1, -1, -1)
    return observations, sign[:, None] * discount


def make(faulty: bool) -> Case:
    batches = batched(*walks(32 * 40, 24))
    return forecaster(
        Critic(softmax=faulty),
        batches[:32],
        batches[32:],
        {"right": {"answers do not fit the loss"}, "partly": {"gradient cut"}}
        if faulty
        else {"healthy"},
        epochs=7,
        good=0.85,
    )
