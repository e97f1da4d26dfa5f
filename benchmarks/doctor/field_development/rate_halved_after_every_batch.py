"""The learning rate is halved after every batch in place of every epoch: it is 0 at once.

Source: kind: threads on scheduler.step() called in the loop over batches.
"""

from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, accuracy, batched, cross_entropy, cued


class GestureNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(4, 16, 3, padding=1)
        self.gru = nn.GRU(16, 24, batch_first=True)
        self.out = nn.Linear(24, 3)

    def forward(self, x: Tensor) -> Tensor:
        features = self.conv(x.transpose(1, 2)).relu().transpose(1, 2)
        return self.out(self.gru(features)[1][0])


def make(faulty: bool) -> Case:
    train, test = batched(*cued(1024, 18, classes=3)), batched(*cued(320, 18, classes=3))

    def adam(model: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.Adam(model.parameters(), lr=0.005)

    def step(model: nn.Module, optimizer: torch.optim.Optimizer, batch: Any) -> None:
        optimizer.zero_grad()
        cross_entropy(model, batch).backward()
        optimizer.step()
        if faulty:
            for group in optimizer.param_groups:
                group["lr"] *= 0.5

    def fit(model: nn.Module) -> None:
        optimizer = adam(model)
        for _ in range(10):
            for batch in train:
                step(model, optimizer, batch)

    return Case(
        GestureNet(),
        train,
        cross_entropy,
        fit,
        lambda m: accuracy(m, test),
        1 / 3,
        0.9,
        {"right": {"step size"}, "partly": {"undertrained"}} if faulty else {"healthy"},
        lambda m: {"training_step": step, "optimizer": adam},
    )
