"""A hand-written LSTM cell takes its forget gate for the share that is forgotten.

Source: GitHub karpathy/char-rnn#60, "LSTM forget gate bias", and microsoft/CNTK#3292, "Python GRU
definition seems to be different from that in original paper" (which side of a gate keeps).
"""

import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.doctor.field_case import Case, digits, fit


class LSTMCell(nn.Module):
    """One step of an LSTM; the bias of the forget gate is 3, as the papers advise."""

    def __init__(self, input_size, hidden_size, inverted):
        super().__init__()
        self.inverted = inverted
        self.gates = nn.Linear(input_size + hidden_size, 4 * hidden_size)
        with torch.no_grad():
            self.gates.bias[hidden_size : 2 * hidden_size] = 3.0

    def forward(self, x, state):
        h, c = state
        i, f, g, o = self.gates(torch.cat([x, h], 1)).chunk(4, 1)
        forget = torch.sigmoid(f)
        keep = 1 - forget if self.inverted else forget
        c = keep * c + torch.sigmoid(i) * torch.tanh(g)
        return torch.sigmoid(o) * torch.tanh(c), c


class PixelReader(nn.Module):
    """A digit, one row at a time and then blank steps, in the user's own loop."""

    def __init__(self, inverted, hidden=32):
        super().__init__()
        self.hidden = hidden
        self.cell = LSTMCell(8, hidden, inverted)
        self.readout = nn.Linear(hidden, 10)

    def forward(self, rows):
        state = (rows.new_zeros(len(rows), self.hidden), rows.new_zeros(len(rows), self.hidden))
        for row in rows.unbind(1):
            state = self.cell(row, state)
        return self.readout(state[0])


def loss_fn(model, batch):
    """The cross-entropy of the digits."""
    return F.cross_entropy(model(batch["rows"]), batch["digit"])


def make(faulty: bool) -> Case:
    """Return the program; the gates of the faulty one erase."""
    images, labels = digits()
    rows = torch.cat([images, torch.zeros(len(images), 16, 8)], 1)
    parts = zip(rows.split(32), labels.split(32), strict=True)
    loader = [{"rows": r, "digit": d} for r, d in parts]
    batches, held_out = loader[:40], loader[40:-1]

    def score(model):
        with torch.no_grad():
            hits = [(model(b["rows"]).argmax(1) == b["digit"]).float() for b in held_out]
        return float(torch.cat(hits).mean())

    return Case(
        PixelReader(inverted=faulty),
        batches,
        loss_fn,
        lambda model: fit(model, batches, loss_fn, epochs=12),
        score,
        chance=0.1,
        good=0.75,
        accept={"right": {"forgetting"}, "partly": {"vanishing gradient"}}
        if faulty
        else {"healthy"},
    )
