"""A rate network is integrated with a step as long as its time constant, and nothing is kept.

Source: kind: github keith-murray/ctrnn-jax on `alpha` and chatpaper.com 8508 on rate networks.
Data: a pulse on one of two channels, and a delay after it.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, classifier


class Network(nn.Module):
    def __init__(self, step: float, time_constant: float) -> None:
        super().__init__()
        self.win = nn.Linear(3, 32)
        self.wrec = nn.Linear(32, 32, bias=False)
        self.wout = nn.Linear(32, 2)
        nn.init.normal_(self.wrec.weight, std=0.6 / 32**0.5)
        self.alpha = step / time_constant

    def forward(self, x: Tensor) -> Tensor:
        v = x.new_zeros(len(x), 32)
        for t in range(x.shape[1]):
            drive = self.win(x[:, t]) + self.wrec(torch.tanh(v))
            v = (1 - self.alpha) * v + self.alpha * drive
        return self.wout(torch.tanh(v))


def trials(count: int, steps: int) -> tuple[Tensor, Tensor]:
    x = 0.4 * torch.randn(count, steps, 3)
    side = torch.randint(2, (count,))
    x[torch.arange(count), :4, side] += 1
    return x, side


def make(faulty: bool) -> Case:
    batches = batched(*trials(32 * 38, 40))
    return classifier(
        Network(step=20.0, time_constant=20.0 if faulty else 400.0),
        batches[:28],
        batches[28:],
        {"right": {"forgetting", "vanishing gradient"}, "partly": set()} if faulty else {"healthy"},
        epochs=6,
        lr=0.002,
        good=0.85,
    )
