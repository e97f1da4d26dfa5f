"""The optimiser is made of a copy of the model (`copy.deepcopy`), which nobody trains.

Source: kind: stackoverflow, the optimiser was made before the model was replaced.
"""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, accuracy, batched, cross_entropy, cued


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.RNN(4, 32, batch_first=True)
        self.fc = nn.Linear(32, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.rnn(x)[1][0])


def step(model: nn.Module, optimizer: torch.optim.Optimizer, batch: Any) -> Tensor:
    optimizer.zero_grad()
    loss = cross_entropy(model, batch)
    loss.backward()
    optimizer.step()
    return loss.detach()


def make(faulty: bool) -> Case:
    train, test = batched(*cued(1024, 12)), batched(*cued(320, 12))

    def adam(model: nn.Module) -> torch.optim.Optimizer:
        trained = copy.deepcopy(model) if faulty else model
        return torch.optim.Adam(trained.parameters(), lr=0.005)

    def fit(model: nn.Module) -> None:
        optimizer = adam(model)
        for _ in range(15):
            for batch in train:
                step(model, optimizer, batch)

    return Case(
        Net(),
        train,
        cross_entropy,
        fit,
        lambda m: accuracy(m, test),
        0.5,
        0.9,
        {"right": {"not trained"}, "partly": set()} if faulty else {"healthy"},
        lambda m: {"training_step": step, "optimizer": adam},
    )
