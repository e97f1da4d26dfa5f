"""Adam with weight_decay=0.3: the weights are pulled to zero, the answers stay at the mean.

Source: Rebuilt, no single thread: weight_decay of Adam set like a learning rate.
"""

from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, accuracy, batched, cross_entropy, cued


class Classifier(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(4, 32, batch_first=True)
        self.fc = nn.Linear(32, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.rnn(x)[0][:, -1])


def step(model: nn.Module, optimizer: torch.optim.Optimizer, batch: Any) -> Tensor:
    optimizer.zero_grad()
    loss = cross_entropy(model, batch)
    loss.backward()
    optimizer.step()
    return loss.detach()


def make(faulty: bool) -> Case:
    train, test = batched(*cued(1024, 15)), batched(*cued(512, 15))

    def adam(model: nn.Module) -> torch.optim.Optimizer:
        decay = 0.3 if faulty else 0.0
        return torch.optim.Adam(model.parameters(), lr=0.01, weight_decay=decay)

    def fit(model: nn.Module) -> None:
        optimizer = adam(model)
        for _ in range(10):
            for batch in train:
                step(model, optimizer, batch)

    return Case(
        Classifier(),
        train,
        cross_entropy,
        fit,
        lambda m: accuracy(m, test),
        0.5,
        0.9,
        {"right": {"weight decay"}, "partly": set()} if faulty else {"healthy"},
        lambda m: {"training_step": step, "optimizer": adam(m)},
    )
