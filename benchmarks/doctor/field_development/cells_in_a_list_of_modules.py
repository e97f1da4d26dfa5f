"""The states of an nn.ModuleList of cells are made anew at every step.

Kind: a stack of nn.GRUCell in one loop, whose states are set to zeros inside of the loop.
"""

import torch
from torch import nn

from benchmarks.doctor.field_case import Case, batched, classifier, cued


class Stack(nn.Module):
    def __init__(self, reset: bool, hidden: int = 16) -> None:
        super().__init__()
        self.hidden, self.reset = hidden, reset
        self.cells = nn.ModuleList([nn.GRUCell(4, hidden), nn.GRUCell(hidden, hidden)])
        self.head = nn.Linear(hidden, 2)

    def forward(self, x):
        states = [torch.zeros(len(x), self.hidden) for _ in self.cells]
        for t in range(x.shape[1]):
            if self.reset:
                states = [torch.zeros(len(x), self.hidden) for _ in self.cells]
            y = x[:, t]
            for k, cell in enumerate(self.cells):
                states[k] = cell(y, states[k])
                y = states[k]
        return self.head(y)


def make(faulty: bool) -> Case:
    train, test = batched(*cued(32 * 32, 20)), batched(*cued(512, 20))
    return classifier(
        Stack(faulty),
        train,
        test,
        {"right": {"forgetting", "gradient cut"}, "partly": set()} if faulty else {"healthy"},
        epochs=8,
    )
