"""A hand-written LSTM loops over x.size(0) of data that have the batch first.

Kind: time and batch swapped, with the loop in forward.
"""

import torch
from torch import nn

from benchmarks.doctor.field_case import Case, batched, classifier, cued


class OwnLSTM(nn.Module):
    def __init__(self, swapped: bool, hidden: int = 20) -> None:
        super().__init__()
        self.hidden, self.swapped = hidden, swapped
        self.x2h = nn.Linear(4, 4 * hidden)
        self.h2h = nn.Linear(hidden, 4 * hidden)
        self.head = nn.Linear(hidden, 2)

    def forward(self, x):
        if not self.swapped:
            x = x.transpose(0, 1)
        outputs = []
        h = c = torch.zeros(x.size(1), self.hidden)
        for t in range(x.size(0)):
            i, f, g, o = (self.x2h(x[t]) + self.h2h(h)).chunk(4, 1)
            c = torch.sigmoid(f + 1) * c + torch.sigmoid(i) * torch.tanh(g)
            h = torch.sigmoid(o) * torch.tanh(c)
            outputs.append(h)
        outputs = torch.stack(outputs)
        return self.head(outputs[:, -1] if self.swapped else outputs[-1])


def make(faulty: bool) -> Case:
    train, test = batched(*cued(32 * 32, 20)), batched(*cued(512, 20))
    return classifier(
        OwnLSTM(faulty),
        train,
        test,
        {"right": {"time and batch swapped"}, "partly": {"samples mixed"}}
        if faulty
        else {"healthy"},
        epochs=8,
    )
