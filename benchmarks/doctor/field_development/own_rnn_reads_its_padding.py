"""A hand-written network over padded tokens reads its state behind the padding.

Kind: padding read, with embedding and loop in forward.
"""

import torch
from torch import nn

from benchmarks.doctor.field_case import Case, batched, classifier


class OwnRNN(nn.Module):
    def __init__(self, masked: bool, hidden: int = 24) -> None:
        super().__init__()
        self.hidden, self.masked = hidden, masked
        self.embedding = nn.Embedding(9, 8)
        self.i2h, self.h2h = nn.Linear(8, hidden), nn.Linear(hidden, hidden)
        self.head = nn.Linear(hidden, 2)

    def forward(self, tokens):
        h = torch.zeros(tokens.size(0), self.hidden)
        for t in range(tokens.size(1)):
            new = torch.tanh(self.i2h(self.embedding(tokens[:, t])) + self.h2h(h))
            h = torch.where((tokens[:, t] > 0)[:, None], new, h) if self.masked else new
        return self.head(h)


def endings(count, steps=40):
    """Return tokens, padded with 0; the class shows in the last one of two or three."""
    tokens = torch.randint(3, 9, (count, steps))
    lengths, y = torch.randint(4, 12, (count,)), torch.randint(2, (count,))
    tokens[torch.arange(count), lengths - 3] = y + 1
    tokens[torch.arange(steps) >= lengths[:, None]] = 0
    return tokens, y


def make(faulty: bool) -> Case:
    train, test = batched(*endings(40 * 32)), batched(*endings(512))
    return classifier(
        OwnRNN(not faulty),
        train,
        test,
        {"right": {"padding read"}, "partly": {"vanishing gradient"}}
        if faulty
        else {"healthy", "no long dependency"},
        epochs=10,
        lr=0.003,
    )
