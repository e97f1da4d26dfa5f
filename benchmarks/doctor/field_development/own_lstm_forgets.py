"""A hand-written LSTM starts with forget gates that are shut.

Kind: an LSTM of nn.Parameters with its loop in forward, as in many tutorials.
"""

import torch
from torch import nn

from benchmarks.doctor.field_case import Case, batched, classifier, cued

HIDDEN = 20


class OwnLSTM(nn.Module):
    def __init__(self, forget_bias: float) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.empty(4, 4 * HIDDEN).uniform_(-0.3, 0.3))
        self.u = nn.Parameter(torch.empty(HIDDEN, 4 * HIDDEN).uniform_(-0.2, 0.2))
        self.b = nn.Parameter(torch.zeros(4 * HIDDEN))
        self.b.data[HIDDEN : 2 * HIDDEN] = forget_bias
        self.head = nn.Linear(HIDDEN, 2)

    def forward(self, x):
        batch, steps, _ = x.size()
        h, c = torch.zeros(batch, HIDDEN), torch.zeros(batch, HIDDEN)
        for t in range(steps):
            gates = x[:, t, :] @ self.w + h @ self.u + self.b
            i, f, g, o = gates.chunk(4, 1)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            h = torch.sigmoid(o) * torch.tanh(c)
        return self.head(h)


def make(faulty: bool) -> Case:
    train, test = batched(*cued(32 * 32, 40)), batched(*cued(512, 40))
    return classifier(
        OwnLSTM(-6.0 if faulty else 3.0),
        train,
        test,
        {"right": {"forgetting", "vanishing gradient"}, "partly": set()} if faulty else {"healthy"},
        epochs=10,
    )
