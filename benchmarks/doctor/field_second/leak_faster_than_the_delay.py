"""A continuous-time rate network has a time constant of one step and a delay of sixty.

Source: jeshraghian/snntorch pull request 61, on choosing and learning time constants (kind: the
leak is too fast for the task). Task: remember the side of a stimulus over the delay.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, classifier


class RateNetwork(nn.Module):
    def __init__(self, time_constant: float) -> None:
        super().__init__()
        self.inputs = nn.Linear(3, 40)
        self.recurrent = nn.Linear(40, 40, bias=False)
        self.readout = nn.Linear(40, 2)
        self.alpha = 1 / time_constant
        nn.init.normal_(self.recurrent.weight, std=0.5 / 40**0.5)

    def forward(self, x: Tensor) -> Tensor:
        current = x.new_zeros(len(x), 40)
        for t in range(x.shape[1]):
            drive = self.recurrent(torch.tanh(current)) + self.inputs(x[:, t])
            current = current + self.alpha * (drive - current)
        return self.readout(torch.tanh(current))


def trials(count: int, steps: int = 64) -> tuple[Tensor, Tensor]:
    side = torch.randint(2, (count,))
    x = 0.1 * torch.randn(count, steps, 3)
    x[:, :4, 0] += (2.0 * side - 1)[:, None]
    x[:, :4, 1] += 1
    x[:, -3:, 2] += 1
    return x, side


def make(faulty: bool) -> Case:
    batches = batched(*trials(32 * 30))
    return classifier(
        RateNetwork(time_constant=1.0 if faulty else 40.0),
        batches[:24],
        batches[24:],
        accept={"right": {"forgetting", "vanishing gradient"}, "partly": set()}
        if faulty
        else {"healthy"},
        epochs=8,
        lr=0.003,
    )
