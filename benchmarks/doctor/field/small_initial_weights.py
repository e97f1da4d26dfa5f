"""A hand-written Elman network is initialised with a standard deviation of 0.01.

Source: GitHub CarterMcClellan/Machine-Learning-Basics (the cell), yunjey/pytorch-tutorial#90 (small
initial weights), and pexcera.com, "Why Standard RNNs Forget".
"""

import torch
from torch import nn

from benchmarks.doctor.field_case import Case, accuracy, batched, cross_entropy, fit


class VanillaRNN(nn.Module):
    """h = tanh(W [x, h] + b), one step at a time."""

    def __init__(self, small, input_size=6, hidden_size=24, output_size=4):
        super().__init__()
        self.hidden_size = hidden_size
        self.i2h = nn.Linear(input_size + hidden_size, hidden_size)
        self.i2o = nn.Linear(hidden_size, output_size)
        if small:
            nn.init.normal_(self.i2h.weight, std=0.01)
            nn.init.zeros_(self.i2h.bias)
        else:
            nn.init.orthogonal_(self.i2h.weight[:, input_size:])

    def forward(self, sequence):
        hidden = torch.zeros(sequence.size(0), self.hidden_size)
        for step in sequence.unbind(1):
            hidden = torch.tanh(self.i2h(torch.cat((step, hidden), 1)))
        return self.i2o(hidden)


def signals(count, steps=40):
    """Return noise with a one-hot class at the first step."""
    x = 0.05 * torch.randn(count, steps, 6)
    label = torch.randint(4, (count,))
    x[torch.arange(count), 0, label] += 1
    return x, label


def make(faulty: bool) -> Case:
    """Return the program: weights of 0.01, or orthogonal recurrent weights."""
    batches, held_out = batched(*signals(32 * 32)), batched(*signals(512))
    return Case(
        VanillaRNN(small=faulty),
        batches,
        cross_entropy,
        lambda model: fit(model, batches, cross_entropy, epochs=14, lr=0.001),
        lambda model: accuracy(model, held_out),
        chance=0.25,
        good=0.9,
        accept={"right": {"vanishing gradient"}, "partly": {"forgetting"}}
        if faulty
        else {"healthy"},
    )
