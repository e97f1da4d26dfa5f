"""A rate network starts with a gain of 14, deep in the chaotic regime: gradients explode.

Source: pytorch/pytorch issue 2769, explosive growth in training (kind: recurrent gain). The network
should report at the end which of two pulses, early or late, was the larger one.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, classifier


class ChaoticRates(nn.Module):
    def __init__(self, gain: float) -> None:
        super().__init__()
        self.inputs = nn.Linear(2, 48, bias=False)
        self.recurrent = nn.Linear(48, 48, bias=False)
        self.readout = nn.Linear(48, 2)
        nn.init.normal_(self.recurrent.weight, std=gain / 48**0.5)

    def forward(self, x: Tensor) -> Tensor:
        current = x.new_zeros(len(x), 48)
        for t in range(x.shape[1]):
            drive = self.recurrent(torch.tanh(current)) + self.inputs(x[:, t])
            current = 0.7 * current + 0.3 * drive
        return self.readout(torch.tanh(current))


def comparisons(count: int, steps: int = 50) -> tuple[Tensor, Tensor]:
    pulses = 0.5 + 1.5 * torch.rand(count, 2)
    x = 0.05 * torch.randn(count, steps, 2)
    x[:, 2:6, 0] += pulses[:, :1]
    x[:, 30:34, 1] += pulses[:, 1:]
    return x, (pulses[:, 0] > pulses[:, 1]).long()


def make(faulty: bool) -> Case:
    batches = batched(*comparisons(32 * 40))
    return classifier(
        ChaoticRates(gain=14.0 if faulty else 1.0),
        batches[:32],
        batches[32:],
        accept={"right": {"exploding gradient"}, "partly": {"saturated", "forgetting"}}
        if faulty
        else {"healthy"},
        epochs=14,
        lr=0.003,
        good=0.88,
    )
