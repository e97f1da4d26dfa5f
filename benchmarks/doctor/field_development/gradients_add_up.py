"""optimizer.zero_grad() is never called: every step follows the sum of all gradients so far.

Source: Stack Exchange (stats) 376851; TextClassificationBenchmark issue 20.
"""

from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, accuracy, batched, cross_entropy, cued


class Classifier(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(4, 32, batch_first=True)
        self.fc = nn.Linear(32, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.rnn(x)[0][:, -1])


def sgd(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=1.0)


def make(faulty: bool) -> Case:
    train, test = (batched(*cued(count, 8, 4)) for count in (1024, 512))

    def step(model: nn.Module, optimizer: torch.optim.Optimizer, batch: Any) -> Tensor:
        if not faulty:
            optimizer.zero_grad()
        loss = cross_entropy(model, batch)
        loss.backward()
        optimizer.step()
        return loss.detach()

    def fit(model: nn.Module) -> None:
        optimizer = sgd(model)
        for _ in range(15):
            for batch in train:
                step(model, optimizer, batch)

    return Case(
        Classifier(),
        train,
        cross_entropy,
        fit,
        lambda m: accuracy(m, test),
        0.25,
        0.9,
        {"right": {"gradients not zeroed"}, "partly": {"saturated", "step size"}}
        if faulty
        else {"healthy"},
        lambda m: {"training_step": step, "optimizer": sgd(m)},
    )
