"""A hand-written GRU cell leaves out one term: the old state is not in the sum.

Source: GitHub ElektrischesSchaf/LayerNorm_GRU#1, "fix gru function", and zhiyongc/GRU-D#2, "Wrong
GRU-D update functions".
"""

import torch
from torch import nn

from benchmarks.doctor.field_case import Case, accuracy, batched, cross_entropy, fit


class MyGRUCell(nn.Module):
    """One step of a GRU."""

    def __init__(self, input_size, hidden_size, no_old_state):
        super().__init__()
        self.no_old_state = no_old_state
        self.x2h = nn.Linear(input_size, 3 * hidden_size)
        self.h2h = nn.Linear(hidden_size, 3 * hidden_size)
        nn.init.constant_(self.h2h.bias[hidden_size : 2 * hidden_size], 1.0)

    def forward(self, x, hidden):
        i_r, i_z, i_n = self.x2h(x).chunk(3, 1)
        h_r, h_z, h_n = self.h2h(hidden).chunk(3, 1)
        resetgate = torch.sigmoid(i_r + h_r)
        inputgate = torch.sigmoid(i_z + h_z)
        newgate = torch.tanh(i_n + resetgate * h_n)
        if self.no_old_state:
            return (1 - inputgate) * newgate
        return newgate + inputgate * (hidden - newgate)


class GRUModel(nn.Module):
    """The cell in a loop over time, and a linear layer on the last state."""

    def __init__(self, input_dim, hidden_dim, output_dim, no_old_state):
        super().__init__()
        self.hidden_dim = hidden_dim
        self.gru_cell = MyGRUCell(input_dim, hidden_dim, no_old_state)
        self.fc = nn.Linear(hidden_dim, output_dim)

    def forward(self, x):
        hn = torch.zeros(x.size(0), self.hidden_dim)
        for seq in range(x.size(1)):
            hn = self.gru_cell(x[:, seq, :], hn)
        return self.fc(hn)


def trials(count, steps=32):
    """Return a cue at the first step and noise after it; the class is the cue."""
    x = 0.3 * torch.randn(count, steps, 3)
    cue = torch.randint(2, (count,))
    x[:, 0, 0] = 2.0 * cue - 1
    x[:, 0, 1] = 2.0
    return x, cue


def make(faulty: bool) -> Case:
    """Return the program; the faulty cell does not add the old state."""
    batches, held_out = batched(*trials(40 * 32)), batched(*trials(512))
    return Case(
        GRUModel(3, 24, 2, no_old_state=faulty),
        batches,
        cross_entropy,
        lambda model: fit(model, batches, cross_entropy, epochs=12),
        lambda model: accuracy(model, held_out),
        chance=0.5,
        good=0.9,
        accept={"right": {"forgetting"}, "partly": {"vanishing gradient"}}
        if faulty
        else {"healthy"},
    )
