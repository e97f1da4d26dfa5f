"""A network that has not learnt: `throughtime diagnose docs/forgetful.py:make` finds the cause.

The class is shown at the first step, 120 steps before the answer; noise follows.
"""

import torch
from torch import nn


class Classifier(nn.Module):
    """The class of a sequence from the last output of a recurrent layer."""

    def __init__(self):
        super().__init__()
        self.rnn = nn.RNN(4, 16, batch_first=True)
        self.head = nn.Linear(16, 2)

    def forward(self, inputs):
        outputs, _ = self.rnn(inputs)
        return self.head(outputs[:, -1])


def make():
    """The model after training, its batches and its loss."""
    torch.manual_seed(0)
    inputs, targets = 0.5 * torch.randn(2048, 120, 4), torch.randint(2, (2048,))
    inputs[:, 0] = 0.0
    inputs[torch.arange(2048), 0, targets] = 3.0
    batches = list(zip(inputs.split(64), targets.split(64), strict=True))
    model, loss = Classifier(), nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters())
    for _ in range(10):
        for x, y in batches:
            optimizer.zero_grad()
            loss(model(x), y).backward()
            optimizer.step()
    return model, batches, loss
