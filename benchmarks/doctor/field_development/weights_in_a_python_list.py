"""The linear maps of a hand-written network lie in a Python list.

Kind: parameters that are not registered.
"""

import torch
from torch import nn

from benchmarks.doctor.field_case import Case, batched, classifier


class OwnRNN(nn.Module):
    def __init__(self, as_list: bool, hidden: int = 16) -> None:
        super().__init__()
        self.hidden = hidden
        maps = [nn.Linear(2, hidden), nn.Linear(hidden, hidden)]
        nn.init.orthogonal_(maps[1].weight)
        self.maps = maps if as_list else nn.ModuleList(maps)
        self.head = nn.Linear(hidden, 2)

    def forward(self, x):
        h = torch.zeros(len(x), self.hidden)
        for t in range(x.size(1)):
            h = torch.tanh(self.maps[0](x[:, t]) + self.maps[1](h))
        return self.head(h)


def pairs(count, steps=14):
    """Return noise with two signs, and whether they agree."""
    x = 0.2 * torch.randn(count, steps, 2)
    signs = 2.0 * torch.randint(2, (count, 2)) - 1
    x[:, 2, 0] += signs[:, 0]
    x[:, 6, 1] += signs[:, 1]
    return x, (signs[:, 0] == signs[:, 1]).long()


def make(faulty: bool) -> Case:
    train, test = batched(*pairs(40 * 32)), batched(*pairs(512))
    return classifier(
        OwnRNN(faulty),
        train,
        test,
        {"right": {"not trained"}, "partly": set()} if faulty else {"healthy"},
        epochs=14,
        options=lambda m: {"optimizer": torch.optim.Adam(m.parameters(), lr=0.01)},
    )
