"""All weights of an LSTM are drawn with a standard deviation of four.

Source: GitHub mukul-rathi/deep-learning-tutorials#2, "LSTM Sigmoid and Tanh gradients saturated",
and guevara/read-it-later#7328 (weights of an Elman network of large values).
"""

import torch
from torch import nn

from benchmarks.doctor.field_case import Case, accuracy, batched, cross_entropy, fit


class MaskedLSTM(nn.Module):
    """Two LSTM layers and a mean over the steps that the mask keeps."""

    def __init__(self, std, n_features=4, hidden=20, n_classes=3):
        super().__init__()
        self.lstm = nn.LSTM(n_features, hidden, num_layers=2, batch_first=True)
        self.fc = nn.Linear(hidden, n_classes)
        if std:
            for name, param in self.lstm.named_parameters():
                if "weight" in name:
                    nn.init.normal_(param, mean=0.0, std=std)

    def forward(self, x, mask):
        out, _ = self.lstm(x)
        weights = mask.unsqueeze(2).float()
        return self.fc((out * weights).sum(1) / weights.sum(1))


def gestures(count, steps=24):
    """Return trajectories of a direction of rotation or of none, with masks of their lengths."""
    kind = torch.randint(3, (count,))
    speed = (kind[:, None] - 1) * (0.3 + 0.4 * torch.rand(count, 1))
    angle = speed * torch.arange(float(steps)) + 6.28 * torch.rand(count, 1)
    x = torch.stack([angle.cos(), angle.sin()], 2)
    x = torch.cat([x, torch.zeros_like(x)], 2) + 0.5 * torch.randn(count, steps, 4)
    mask = torch.arange(steps) < torch.randint(steps // 2, steps + 1, (count, 1))
    return x * mask.unsqueeze(2), mask, kind


def make(faulty: bool) -> Case:
    """Return the program; the gates of the faulty one are saturated from the start."""
    batches, held_out = batched(*gestures(32 * 32)), batched(*gestures(512))
    return Case(
        MaskedLSTM(std=4.0 if faulty else None),
        batches,
        cross_entropy,
        lambda model: fit(model, batches, cross_entropy, epochs=12, lr=0.005),
        lambda model: accuracy(model, held_out),
        chance=1 / 3,
        good=0.85,
        accept={"right": {"saturated"}, "partly": {"exploding gradient", "vanishing gradient"}}
        if faulty
        else {"healthy"},
    )
