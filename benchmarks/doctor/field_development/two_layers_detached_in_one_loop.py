"""Two tanh layers in one loop, whose states are detached at every step.

Kind: gradient cut, with the loop in forward.
"""

import torch
from torch import nn

from benchmarks.doctor.field_case import Case, batched, classifier, cued


class TwoLayers(nn.Module):
    def __init__(self, detach: bool, hidden: int = 20) -> None:
        super().__init__()
        self.hidden, self.detach = hidden, detach
        self.ih = nn.ModuleList([nn.Linear(4, hidden), nn.Linear(hidden, hidden)])
        self.hh = nn.ModuleList([nn.Linear(hidden, hidden) for _ in range(2)])
        self.head = nn.Linear(hidden, 2)

    def forward(self, x):
        h = [x.new_zeros(len(x), self.hidden) for _ in range(2)]
        for t in range(x.shape[1]):
            below = x[:, t]
            for k in range(2):
                old = h[k].detach() if self.detach else h[k]
                h[k] = torch.tanh(self.ih[k](below) + self.hh[k](old))
                below = h[k]
        return self.head(h[-1])


def make(faulty: bool) -> Case:
    train, test = batched(*cued(40 * 32, 14)), batched(*cued(512, 14))
    return classifier(
        TwoLayers(faulty),
        train,
        test,
        {"right": {"gradient cut"}, "partly": {"vanishing gradient"}} if faulty else {"healthy"},
        epochs=16,
        lr=0.003,
    )
