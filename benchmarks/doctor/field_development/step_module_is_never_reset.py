"""A module of one step keeps its state in self.h, and nobody resets it between sequences.

Kind: state leak of a step module with a state of its own.
"""

import torch
from torch import nn

from benchmarks.doctor.field_case import Case, batched, classifier


class Integrator(nn.Module):
    """One step; the state lies in the module."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.hidden, self.h = hidden, None
        self.i2h = nn.Linear(2, hidden)

    def forward(self, x):
        if self.h is None or len(self.h) != len(x):
            self.h = torch.zeros(len(x), self.hidden)
        self.h = self.h + 0.1 * self.i2h(x)
        return self.h


class Net(nn.Module):
    def __init__(self, reset: bool) -> None:
        super().__init__()
        self.step, self.head, self.reset = Integrator(16), nn.Linear(16, 2), reset

    def forward(self, x):
        if self.reset or self.step.h is None:
            self.step.h = None
        else:
            self.step.h = self.step.h.detach()
        for t in range(x.size(1)):
            h = self.step(x[:, t])
        return self.head(h)


def sums(count, steps=16):
    """Return noise, and whether its sum is above 0."""
    x = torch.randn(count, steps, 2)
    return x, (x[:, :, 0].sum(1) > 0).long()


def make(faulty: bool) -> Case:
    train, test = batched(*sums(32 * 32)), batched(*sums(512))
    return classifier(
        Net(not faulty),
        train,
        test,
        {"right": {"state leak"}, "partly": set()} if faulty else {"healthy", "no long dependency"},
        epochs=8,
    )
