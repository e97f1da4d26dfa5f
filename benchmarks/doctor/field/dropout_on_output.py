"""The dropout between the recurrent layer and the head is 0.97, meant as the share that is kept.

Source: GitHub philipxjm/Deep-Convolution-Stock-Technical-Analysis#8, "About dropout", and
hunkim/DeepLearningZeroToAll#206, "dropout rate = 1 - keep_prob".
"""

import torch
from torch import nn

from benchmarks.doctor.field_case import Case, batched, explained, fit, squared_error


class CNNGRU(nn.Module):
    """Convolutions over a sensor signal, a GRU, dropout, and a regression head."""

    def __init__(self, dropout, channels=8, hidden=6):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv1d(2, channels, kernel_size=3, padding=1), nn.ReLU(), nn.MaxPool1d(2)
        )
        self.gru = nn.GRU(channels, hidden, batch_first=True)
        self.dropout = nn.Dropout(dropout)
        self.out = nn.Linear(hidden, 1)

    def forward(self, x):
        feats = self.features(x.transpose(1, 2)).transpose(1, 2)
        _, h = self.gru(feats)
        return self.out(self.dropout(h[-1]))


def vibrations(count, steps=32):
    """Return two-channel signals, and the strength of the burst in the first half of each."""
    x = 0.2 * torch.randn(count, steps, 2)
    strength = torch.rand(count)
    at = torch.randint(2, steps // 2 - 6, (count,))
    for k in range(6):
        x[torch.arange(count), at + k, k % 2] += 3 * strength
    return x, ((strength - 0.5) * 12**0.5).unsqueeze(1)


def make(faulty: bool) -> Case:
    """Return the program; the faulty one drops 97 % of what the head reads."""
    batches, held_out = batched(*vibrations(32 * 32)), batched(*vibrations(512))
    return Case(
        CNNGRU(dropout=0.97 if faulty else 0.03),
        batches,
        squared_error,
        lambda model: fit(model, batches, squared_error, epochs=15),
        lambda model: explained(model, held_out),
        chance=0.0,
        good=0.9,
        accept={"right": {"dropout"}, "partly": set()} if faulty else {"healthy"},
    )
