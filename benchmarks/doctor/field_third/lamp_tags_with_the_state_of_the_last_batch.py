"""A tagger keeps its state over shuffled batches: each lamp starts where another one ended.

Source: gabrielloye/RNN-walkthrough issue 3, where the state is kept in `self.hidden` and detached.
A lamp is off at first, and every press of its button switches it.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import (
    Case,
    accuracy,
    batched,
    cross_entropy,
    fit,
)


class LampTagger(nn.Module):
    def __init__(self, keeps: bool) -> None:
        super().__init__()
        self.lstm = nn.LSTM(2, 16, batch_first=True)
        self.fc = nn.Linear(16, 2)
        self.keeps = keeps
        self.hidden: tuple[Tensor, Tensor] | None = None

    def forward(self, x: Tensor) -> Tensor:
        start = self.hidden
        if start is None or not self.keeps or start[0].shape[1] != len(x):
            start = (x.new_zeros(1, len(x), 16), x.new_zeros(1, len(x), 16))
        out, (h, c) = self.lstm(x, start)
        self.hidden = (h.detach(), c.detach())
        return self.fc(out)


def lamps(count: int, steps: int) -> tuple[Tensor, Tensor]:
    pressed = (torch.rand(count, steps) < 0.25).float()
    x = torch.stack((2 * pressed, 0.3 * torch.randn(count, steps)), 2)
    return x, (pressed.cumsum(1) % 2).long()


def make(faulty: bool) -> Case:
    batches = batched(*lamps(32 * 50, 16))
    train, test = batches[:40], batches[40:]
    return Case(
        LampTagger(keeps=faulty),
        train,
        cross_entropy,
        lambda model: fit(model, train, cross_entropy, epochs=14, lr=0.02),
        lambda model: accuracy(model, test),
        chance=0.5,
        good=0.93,
        accept={"right": {"state leak"}, "partly": set()}
        if faulty
        else {"healthy", "no long dependency"},
    )
