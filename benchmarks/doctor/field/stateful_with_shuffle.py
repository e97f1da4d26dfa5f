"""A stateful network keeps its hidden state, and the batches are shuffled and unrelated.

Source: GitHub tensorflow/tensorflow#40067, "Doc recommends stateful training but the batches are
shuffled?", and keras-team/keras#1820, "Does the stateful_lstm.py example make sense?".
"""

import torch
from torch import nn

from benchmarks.doctor.field_case import Case, batched, explained, fit, squared_error


class StatefulLSTM(nn.Module):
    """An LSTM that stores its state for the next batch."""

    def __init__(self, n_features=1, hidden=24, stateful=True):
        super().__init__()
        self.stateful = stateful
        self.lstm = nn.LSTM(n_features, hidden, batch_first=True)
        self.fc = nn.Linear(hidden, 1)
        self.hidden = None

    def forward(self, x):
        state = self.hidden if self.stateful else None
        out, (h, c) = self.lstm(x, state)
        self.hidden = (h.detach(), c.detach())
        return self.fc(out)


def sessions(count, steps=12):
    """Return readings, and at each step the first reading of the session."""
    readings = torch.randn(count, steps, 1)
    return readings, readings[:, :1].repeat(1, steps, 1)


def make(faulty: bool) -> Case:
    """Return the program; each sequence of the faulty one starts from another one's state."""
    batches, held_out = batched(*sessions(40 * 32)), batched(*sessions(512))
    return Case(
        StatefulLSTM(stateful=faulty),
        batches,
        squared_error,
        lambda model: fit(model, batches, squared_error, epochs=15),
        lambda model: explained(model, held_out),
        chance=0.0,
        good=0.85,
        accept={"right": {"state leak"}, "partly": set()} if faulty else {"healthy"},
    )
