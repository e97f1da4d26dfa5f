"""A hand-written GRU stacks its outputs, and the head reads the first of them.

Kind: answer at the wrong step, with the loop in forward.
"""

import torch
from torch import nn

from benchmarks.doctor.field_case import Case, batched, classifier, cued


class OwnGRU(nn.Module):
    def __init__(self, step: int, hidden: int = 20) -> None:
        super().__init__()
        self.hidden, self.step = hidden, step
        self.gates = nn.Linear(4 + hidden, 2 * hidden)
        self.new = nn.Linear(4 + hidden, hidden)
        self.head = nn.Linear(hidden, 3)

    def forward(self, x):
        h = torch.zeros(len(x), self.hidden)
        outputs = torch.zeros(len(x), x.size(1), self.hidden)
        for t in range(x.size(1)):
            z, r = torch.sigmoid(self.gates(torch.cat((x[:, t], h), 1))).chunk(2, 1)
            n = torch.tanh(self.new(torch.cat((x[:, t], r * h), 1)))
            h = z * h + (1 - z) * n
            outputs[:, t] = h
        return self.head(outputs[:, self.step])


def make(faulty: bool) -> Case:
    train, test = batched(*cued(32 * 32, 16, 3, at=4)), batched(*cued(512, 16, 3, at=4))
    return classifier(
        OwnGRU(0 if faulty else -1),
        train,
        test,
        {"right": {"answer at the wrong step"}, "partly": set()} if faulty else {"healthy"},
        epochs=8,
        classes=3,
    )
