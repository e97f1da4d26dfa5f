"""The loop calls backward and step, and never zero_grad.

Source: Cross Validated 376851, "Why is LSTM so ineffective at this ridiculously simple sequence?".
"""

import torch
from torch import nn

from benchmarks.doctor.field_case import Case, batched, explained, squared_error


class NextValue(nn.Module):
    """An LSTM that predicts the next value at each step."""

    def __init__(self, hidden_size=24):
        super().__init__()
        self.lstm = nn.LSTM(input_size=1, hidden_size=hidden_size, batch_first=True)
        self.linear = nn.Linear(hidden_size, 1)

    def forward(self, x):
        h0 = torch.zeros(1, x.size(0), self.lstm.hidden_size)
        output, _ = self.lstm(x, (h0, torch.zeros_like(h0)))
        return self.linear(output)


def waves(count, steps=20):
    """Return sine waves of random period and phase, and the same waves one step later."""
    t = torch.arange(steps + 1.0)
    period = 6 + 10 * torch.rand(count, 1)
    wave = torch.sin(2 * torch.pi * (t / period + torch.rand(count, 1)))
    wave = (wave + 0.05 * torch.randn_like(wave)).unsqueeze(-1)
    return wave[:, :-1], wave[:, 1:]


def make(faulty: bool) -> Case:
    """Return the program; the faulty one accumulates the gradients of all batches."""
    batches, held_out = batched(*waves(24 * 16), size=16), batched(*waves(256))

    def training_step(model, optimizer, batch):
        if not faulty:
            optimizer.zero_grad()
        squared_error(model, batch).backward()
        optimizer.step()

    def optimizer_of(model):
        return torch.optim.Adam(model.parameters(), lr=0.02)

    def fit(model):
        optimizer = optimizer_of(model)
        for _ in range(25):
            for batch in batches:
                training_step(model, optimizer, batch)

    return Case(
        NextValue(),
        batches,
        squared_error,
        fit,
        lambda model: explained(model, held_out),
        chance=0.0,
        good=0.9,
        accept={"right": {"gradients not zeroed"}, "partly": {"step size"}}
        if faulty
        else {"healthy", "no long dependency"},
        options=lambda model: {
            "training_step": training_step,
            "optimizer": optimizer_of(model),
        },
    )
