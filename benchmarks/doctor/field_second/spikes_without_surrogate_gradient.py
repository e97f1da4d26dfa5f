"""A spiking network computes its spikes with `>`, so that no gradient passes them.

Source: jeshraghian/snntorch issue 205 and pull request 61, on the code of leaky neurons (kind:
spikes without a surrogate gradient). The input and recurrent weights get no gradient.
"""

from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, classifier, cued


class Surrogate(torch.autograd.Function):
    """A step function with the derivative of a steep sigmoid."""

    @staticmethod
    def forward(ctx: Any, potential: Tensor) -> Tensor:
        ctx.save_for_backward(potential)
        return (potential > 0).float()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (potential,) = ctx.saved_tensors
        return gradient / (1 + 2 * potential.abs()).square()


class SpikingClassifier(nn.Module):
    def __init__(self, surrogate: bool) -> None:
        super().__init__()
        self.inputs = nn.Linear(4, 40)
        self.recurrent = nn.Linear(40, 40, bias=False)
        self.readout = nn.Linear(40, 2)
        self.surrogate = surrogate
        nn.init.normal_(self.inputs.weight, std=0.1)
        nn.init.normal_(self.recurrent.weight, std=0.05)

    def spikes(self, potential: Tensor) -> Tensor:
        if self.surrogate:
            return Surrogate.apply(potential)
        return (potential > 0).float()

    def forward(self, x: Tensor) -> Tensor:
        potential = fired = trace = x.new_zeros(len(x), 40)
        for t in range(x.shape[1]):
            potential = 0.95 * potential + self.inputs(x[:, t]) + self.recurrent(fired) - fired
            fired = self.spikes(potential - 1)
            trace = 0.9 * trace + 0.1 * fired
        return self.readout(trace)


def make(faulty: bool) -> Case:
    batches = batched(*cued(32 * 34, 35, noise=0.5))
    return classifier(
        SpikingClassifier(surrogate=not faulty),
        batches[:28],
        batches[28:],
        accept={"right": {"gradient cut"}, "partly": {"dead units", "not trained"}}
        if faulty
        else {"healthy"},
        epochs=12,
        lr=0.005,
    )
