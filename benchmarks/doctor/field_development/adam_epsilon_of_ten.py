"""Adam with eps=10, meant for the learning rate's decay: updates are a hundred times too small.

Source: kind: positional arguments of Adam, where eps and lr were confused.
"""

from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, explained, squared_error


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.LSTM(3, 24, batch_first=True)
        self.decoder = nn.LSTMCell(1, 24)
        self.out = nn.Linear(24, 1)

    def forward(self, x: Tensor) -> Tensor:
        _, (h, c) = self.encoder(x)
        h, c, said = h[0], c[0], []
        value = x.new_zeros(len(x), 1)
        for _ in range(4):
            h, c = self.decoder(value, (h, c))
            value = self.out(h)
            said.append(value)
        return torch.cat(said, 1)


def first_four(count: int) -> list[tuple[Tensor, Tensor]]:
    x = torch.randn(count, 14, 3)
    return batched(x, x[:, :4, 0].flip(1).cumsum(1) / 2, size=32)


def make(faulty: bool) -> Case:
    train, test = first_four(1280), first_four(256)

    def adam(model: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.Adam(model.parameters(), lr=0.01, eps=10.0 if faulty else 1e-8)

    def step(model: nn.Module, optimizer: torch.optim.Optimizer, batch: Any) -> Tensor:
        optimizer.zero_grad()
        loss = squared_error(model, batch)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return loss.detach()

    def fit(model: nn.Module) -> None:
        optimizer = adam(model)
        for _ in range(25):
            for batch in train:
                step(model, optimizer, batch)

    return Case(
        Encoder(),
        train,
        squared_error,
        fit,
        lambda m: explained(m, test),
        0.0,
        0.75,
        {"right": {"step size"}, "partly": {"undertrained"}} if faulty else {"healthy"},
        lambda m: {"training_step": step, "optimizer": adam},
    )
