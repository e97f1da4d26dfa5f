"""A leaky memory cell starts with a write-gate bias of -20: nothing is ever written to its state.

Source: discuss.pytorch.org 117004, on a custom gated cell (kind: a gate stuck by its bias). The
target of the tracker is the position of a landmark, in the frame of the path walked since.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, forecaster


class Tracker(nn.Module):
    def __init__(self, bias: float) -> None:
        super().__init__()
        self.write = nn.Linear(5, 40)
        self.content = nn.Linear(5 + 40, 40)
        self.landmark = nn.Linear(40, 2)
        nn.init.constant_(self.write.bias, bias)

    def forward(self, x: Tensor) -> Tensor:
        memory = x.new_zeros(len(x), 40)
        for t in range(x.shape[1]):
            gate = torch.sigmoid(self.write(x[:, t]))
            content = torch.tanh(self.content(torch.cat((x[:, t], memory), dim=1)))
            memory = memory + gate * (content - memory)
        return self.landmark(memory)


def walks(count: int, steps: int = 20) -> tuple[Tensor, Tensor]:
    landmark = torch.randn(count, 2)
    velocity = 0.15 * torch.randn(count, steps, 2)
    x = torch.zeros(count, steps, 5)
    x[:, :, :2] = velocity
    x[:, 0, 2:4] = landmark
    x[:, 0, 4] = 1
    return x, landmark - velocity.sum(1)


def make(faulty: bool) -> Case:
    batches = batched(*walks(32 * 44))
    return forecaster(
        Tracker(bias=-20.0 if faulty else -1.0),
        batches[:36],
        batches[36:],
        accept={"right": {"saturated"}, "partly": {"gradient cut", "vanishing gradient"}}
        if faulty
        else {"healthy"},
        epochs=12,
        lr=0.005,
        good=0.75,
    )
