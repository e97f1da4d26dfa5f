"""The target column belongs to another machine, after a merge on the wrong index; it is memorised.

Source: GitHub oracle/accelerated-data-science#832, "Fallback model referencing target series rather
than the target column", and pedrogsfernandes/thesis#21, "fix series_to_supervised".
"""

import torch
from torch import nn

from benchmarks.doctor.field_case import Case, batched, explained, fit, squared_error


class AttentionRegressor(nn.Module):
    """A GRU with attention over its outputs."""

    def __init__(self, n_features=3, hidden=48):
        super().__init__()
        self.gru = nn.GRU(n_features, hidden, batch_first=True)
        self.attn = nn.Linear(hidden, 1)
        self.out = nn.Sequential(nn.Linear(hidden, hidden), nn.Tanh(), nn.Linear(hidden, 1))

    def forward(self, x):
        outputs, _ = self.gru(x)
        weights = torch.softmax(self.attn(outputs), dim=1)
        return self.out((weights * outputs).sum(dim=1))


def machines(count, steps=16):
    """Return sensor histories and the wear that follows from the load peaks of each."""
    x = torch.randn(count, steps, 3)
    wear = (x[..., 0].clamp(min=0) * torch.sigmoid(3 * x[..., 1])).sum(1, keepdim=True)
    return x, (wear - wear.mean()) / wear.std()


def make(faulty: bool) -> Case:
    """Return the program; the faulty one pairs each history with the wear of another machine."""
    x, wear = machines(16 * 16 + 256)
    if faulty:
        wear = wear.roll(37, dims=0)
    batches = batched(x[:256], wear[:256], size=16)
    unseen = batched(x[256:], wear[256:], size=16)
    return Case(
        AttentionRegressor(),
        batches,
        squared_error,
        lambda model: fit(model, batches, squared_error, epochs=40, lr=0.005),
        lambda model: explained(model, unseen),
        chance=0.0,
        good=0.6,
        accept={"right": {"no dependence found"}, "partly": set()} if faulty else {"healthy"},
        options=lambda model: {"unseen": unseen},
    )
