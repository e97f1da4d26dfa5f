"""SGD with gradients clipped to a norm of 1e-4: the weights hardly move.

Source: kind: threads on clip_grad_norm_ whose limit was taken from a learning rate.
"""

from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, accuracy, batched, cross_entropy, digits


class RowReader(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(4, 48, batch_first=True)
        self.classes = nn.Linear(48, 10)

    def forward(self, parts: Tensor) -> Tensor:
        _, (hidden, _) = self.lstm(parts)
        return self.classes(hidden[-1])


def make(faulty: bool) -> Case:
    images, classes = digits()
    batches = batched(images.reshape(-1, 16, 4) * 2 - 0.6, classes, size=32)
    train, test = batches[:44], batches[44:]
    norm = 1e-4 if faulty else 1.0

    def step(model: nn.Module, optimizer: torch.optim.Optimizer, batch: Any) -> Tensor:
        loss = cross_entropy(model, batch)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), norm)
        optimizer.step()
        return loss.detach()

    def sgd(model: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.SGD(model.parameters(), lr=0.2, momentum=0.9)

    def fit(model: nn.Module) -> None:
        optimizer = sgd(model)
        for _ in range(15):
            for batch in train:
                step(model, optimizer, batch)

    return Case(
        RowReader(),
        train,
        cross_entropy,
        fit,
        lambda m: accuracy(m, test),
        0.1,
        0.85,
        {"right": {"step size"}, "partly": {"undertrained"}}
        if faulty
        else {"healthy", "no long dependency"},
        lambda m: {"training_step": step, "optimizer": sgd},
    )
