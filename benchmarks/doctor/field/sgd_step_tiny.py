"""A forecaster is trained by plain SGD with a learning rate of 1e-5: the loss does not decrease.

Source: discuss.pytorch.org 159152, "Loss not decreasing in LSTM network".
"""

import torch
from torch import nn

from benchmarks.doctor.field_case import Case, batched, explained, squared_error


class Seq2DenseModel(nn.Module):
    """An LSTM whose final hidden state goes through dense layers."""

    def __init__(self, hidden=24, horizon=4):
        super().__init__()
        self.lstm = nn.LSTM(1, hidden, batch_first=True)
        for name, param in self.lstm.named_parameters():
            if name.startswith("weight_ih"):
                nn.init.xavier_uniform_(param)
            elif name.startswith("weight_hh"):
                nn.init.orthogonal_(param)
            else:
                nn.init.zeros_(param)
        self.decoder = nn.Sequential(
            nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, horizon)
        )

    def forward(self, x):
        lstm_output, _ = self.lstm(x)
        return self.decoder(lstm_output[:, -1, :])


def series(count, steps=24, horizon=4):
    """Return windows of a seasonal series with its own period in each, and the next values."""
    t = torch.arange(float(steps + horizon))
    phase = torch.rand(count, 1)
    period = 8 + 8 * torch.rand(count, 1)
    y = torch.sin(2 * torch.pi * (t / period + phase)) + 0.1 * torch.randn(count, steps + horizon)
    return y[:, :steps, None], y[:, steps:]


def make(faulty: bool) -> Case:
    """Return the program; the faulty one takes steps of 1e-5."""
    batches, held_out = batched(*series(24 * 32)), batched(*series(256))

    def optimizer_of(model):
        if faulty:
            return torch.optim.SGD(model.parameters(), lr=1e-5)
        return torch.optim.Adam(model.parameters(), lr=1e-2)

    def training_step(model, optimizer, batch):
        optimizer.zero_grad()
        squared_error(model, batch).backward()
        optimizer.step()

    def fit(model):
        optimizer = optimizer_of(model)
        for _ in range(20):
            for batch in batches:
                training_step(model, optimizer, batch)

    return Case(
        Seq2DenseModel(),
        batches,
        squared_error,
        fit,
        lambda model: explained(model, held_out),
        chance=0.0,
        good=0.75,
        accept={"right": {"step size"}, "partly": {"undertrained"}}
        if faulty
        else {"healthy", "no long dependency"},
        options=lambda model: {
            "training_step": training_step,
            "optimizer": optimizer_of(model),
        },
    )
