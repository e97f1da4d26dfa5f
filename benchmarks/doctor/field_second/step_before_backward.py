"""The optimiser steps between `zero_grad` and `backward`, so that it never has a gradient.

Source: runebook.dev on `optimizer.step`; kind: discuss.pytorch.org "loss not decreasing" on the
order of the calls.
"""

from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, accuracy, batched, cross_entropy, cued

EPOCHS = 12


class EventClassifier(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(4, 24, num_layers=2, batch_first=True)
        self.out = nn.Linear(24, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.rnn(x)[1][-1])


def adam(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.Adam(model.parameters(), lr=0.01)


def step_too_early(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer) -> None:
    loss = cross_entropy(model, batch)
    optimizer.zero_grad()
    optimizer.step()
    loss.backward()


def step_last(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer) -> None:
    loss = cross_entropy(model, batch)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def make(faulty: bool) -> Case:
    batches = batched(*cued(32 * 40, 18, classes=4, at=4))
    train, test = batches[:32], batches[32:]
    training_step = step_too_early if faulty else step_last

    def fit(model: nn.Module) -> None:
        optimizer = adam(model)
        for _ in range(EPOCHS):
            for batch in train:
                training_step(model, batch, optimizer)

    return Case(
        EventClassifier(),
        train,
        cross_entropy,
        fit,
        lambda model: accuracy(model, test),
        chance=0.25,
        good=0.9,
        accept={"right": {"not trained"}, "partly": set()} if faulty else {"healthy"},
        options=lambda model: {"training_step": training_step, "optimizer": adam(model)},
    )
