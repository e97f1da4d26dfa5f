"""A loop over an LSTM cell detaches the hidden state at each step, against a memory error.

Source: codegenes.net, "Mastering detach in Hidden State Loss Backward with PyTorch", and GitHub
LiyuanLucasLiu/LD-Net#6, "What is repackage_hidden?".
"""

import torch
from torch import nn

from benchmarks.doctor.field_case import Case, accuracy, batched, cross_entropy, fit


def repackage_hidden(h):
    """Wrap hidden states in new tensors, to detach them from their history."""
    if isinstance(h, torch.Tensor):
        return h.detach()
    return tuple(repackage_hidden(v) for v in h)


class StepModel(nn.Module):
    """An LSTM cell that is called once for each observation."""

    def __init__(self, input_size=4, hidden_size=24, n_out=2, repackage=False):
        super().__init__()
        self.repackage = repackage
        self.hidden_size = hidden_size
        self.cell = nn.LSTMCell(input_size, hidden_size)
        self.out = nn.Linear(hidden_size, n_out)

    def forward(self, sequence):
        batch = sequence.shape[0]
        state = (torch.zeros(batch, self.hidden_size), torch.zeros(batch, self.hidden_size))
        for x in sequence.transpose(0, 1):
            if self.repackage:
                state = repackage_hidden(state)
            state = self.cell(x, state)
        return self.out(state[0])


def orders(count, steps=20):
    """Return signals with two marked steps, in two channels; the class: is A before B?"""
    x = 0.2 * torch.randn(count, steps, 4)
    rows = torch.arange(count)
    early, late = torch.randint(0, 6, (count,)), torch.randint(6, 12, (count,))
    a_first = torch.randint(2, (count,))
    x[rows, early, 1 - a_first] += 2
    x[rows, late, a_first] += 2
    return x, a_first


def make(faulty: bool) -> Case:
    """Return the program; the gradient of the faulty one reaches one step back."""
    batches, held_out = batched(*orders(40 * 32)), batched(*orders(512))
    return Case(
        StepModel(repackage=faulty),
        batches,
        cross_entropy,
        lambda model: fit(model, batches, cross_entropy, epochs=12, lr=0.005),
        lambda model: accuracy(model, held_out),
        chance=0.5,
        good=0.95,
        accept={"right": {"gradient cut"}, "partly": set()} if faulty else {"healthy"},
    )
