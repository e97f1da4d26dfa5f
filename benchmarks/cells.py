"""The cells that the engines are measured on: torch's three, and four that a user might write."""

import torch
from torch import nn

import throughtime as tt
from throughtime.cells import CoupledLSTMCell


class MinimalGatedUnit(tt.GatedCell):
    """Zhou et al. 2016: one gate forgets and resets; the reset acts on the past's gate."""

    gates = ("forget", "new")

    def pointwise(self, x, u, state):
        f = torch.sigmoid(x[0] + u[0])
        return (1 - f) * state.h + f * torch.tanh(x[1] + f * u[1])


class LeakyWithLags(tt.GatedCell):
    """A leaky tanh unit that also sees the output of five steps ago."""

    gates = 1
    lags = (1, 5)

    def __init__(self, input_size, hidden_size, **options):
        super().__init__(input_size, hidden_size, **options)
        self.rate = nn.Parameter(torch.linspace(-2, 2, hidden_size))

    def pointwise(self, x, u, state):
        rate = torch.sigmoid(self.rate)
        return (1 - rate) * state.h + rate * torch.tanh(x[0] + u[0])


class SixGates(tt.GatedCell):
    """An LSTM with a fast and a slow memory, each with gates of its own to forget and to write."""

    gates = ("in_fast", "forget_fast", "in_slow", "forget_slow", "new", "out")
    memories = ("fast", "slow")

    def pointwise(self, x, u, state):
        gates = [a + b for a, b in zip(x, u, strict=True)]
        i, f, j, k = (g.sigmoid() for g in gates[:4])
        new = gates[4].tanh()
        fast = f * state.fast + i * new
        slow = k * state.slow + j * new
        return gates[5].sigmoid() * (fast + slow).tanh(), fast, slow


USERS = {
    "coupled LSTM": CoupledLSTMCell,
    "minimal gated unit": MinimalGatedUnit,
    "leaky, lags (1, 5)": LeakyWithLags,
    "six gates, two memories": SixGates,
}
