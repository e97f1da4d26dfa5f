"""The gradient norm is clipped at 0.0001 before a plain gradient step: nothing moves.

Source: kind: clipping set to "a very small value to be safe", after pytorch/pytorch issue 2769.
Data: handwritten digits, half a row of pixels a step; the target is how much ink the page has.
"""

from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, digits, explained, squared_error


class InkMeter(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(4, 32, batch_first=True)
        self.head = nn.Linear(32, 1)

    def forward(self, x: Tensor) -> Tensor:
        _, state = self.rnn(x)
        return self.head(state[-1])[:, 0]


def optimizer_of(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)


def make(faulty: bool) -> Case:
    images, _ = digits()
    ink = images.sum((1, 2))
    batches = batched(images.reshape(-1, 16, 4), (ink - ink.mean()) / ink.std())
    train, test = batches[:46], batches[46:]
    limit = 1e-4 if faulty else 1.0

    def step(model: nn.Module, optimizer: torch.optim.Optimizer, batch: Any) -> Tensor:
        optimizer.zero_grad()
        loss = squared_error(model, batch)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), limit)
        optimizer.step()
        return loss

    def fit(model: nn.Module) -> None:
        optimizer = optimizer_of(model)
        for _ in range(14):
            for i in torch.randperm(len(train)).tolist():
                step(model, optimizer, train[i])

    return Case(
        InkMeter(),
        train,
        squared_error,
        fit,
        lambda model: explained(model, test),
        chance=0.0,
        good=0.8,
        accept={"right": {"step size"}, "partly": {"undertrained", "not trained"}}
        if faulty
        else {"healthy", "no long dependency"},
        options=lambda model: {"optimizer": optimizer_of, "training_step": step},
    )
