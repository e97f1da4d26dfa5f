"""A rate network that integrates keeps its rates in self between shuffled batches.

Kind: state leak, with the loop in forward.
"""

import torch
from torch import nn

from benchmarks.doctor.field_case import Case, batched, classifier


class RateNetwork(nn.Module):
    def __init__(self, kept: bool, hidden: int = 24) -> None:
        super().__init__()
        self.hidden, self.kept, self.rate = hidden, kept, None
        self.inputs = nn.Linear(2, hidden)
        self.readout = nn.Linear(hidden, 2)
        self.register_buffer("recurrent", torch.eye(hidden))

    def forward(self, x):
        if self.rate is None or not self.kept or len(self.rate) != len(x):
            self.rate = torch.zeros(len(x), self.hidden)
        self.rate = self.rate.detach()
        for t in range(x.size(1)):
            drive = self.inputs(x[:, t]) + self.rate @ self.recurrent
            self.rate = 0.5 * self.rate + 0.5 * drive
        return self.readout(self.rate)


def sums(count, steps=16):
    """Return noise, and whether its sum is above 0."""
    x = torch.randn(count, steps, 2)
    return x, (x[:, :, 0].sum(1) > 0).long()


def make(faulty: bool) -> Case:
    train, test = batched(*sums(32 * 32)), batched(*sums(512))
    return classifier(
        RateNetwork(faulty),
        train,
        test,
        {"right": {"state leak"}, "partly": {"exploding gradient"}}
        if faulty
        else {"healthy", "no long dependency"},
        epochs=8,
    )
