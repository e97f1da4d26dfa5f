"""MSELoss of answers (B, 1) against targets (B,): broadcast to (B, B), the mean is the best answer.

Source: discuss.pytorch.org/t/202270, and many alike.
"""

import warnings
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.doctor.field_case import Case, answers, batched, fit


class Forecaster(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(1, 32, batch_first=True)
        self.fc = nn.Linear(32, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.rnn(x)[0][:, -1])


def walks(count: int) -> list[tuple[Tensor, Tensor]]:
    x = 0.5 * torch.randn(count, 15, 1)
    return batched(x, x.sum((1, 2)))


def make(faulty: bool) -> Case:
    train, test = walks(1024), walks(512)

    def loss(model: nn.Module, batch: Any) -> Tensor:
        x, y = batch
        answer = model(x) if faulty else model(x).squeeze(1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the shapes differ, as in the thread
            return F.mse_loss(answer, y)

    def score(model: nn.Module) -> float:
        pairs = answers(model, test)
        error = sum(float(F.mse_loss(a.squeeze(1), y)) for a, y in pairs) / len(pairs)
        return 1 - error / 3.75

    return Case(
        Forecaster(),
        train,
        loss,
        lambda m: fit(m, train, loss, 10),
        score,
        0.0,
        0.9,
        {"right": {"target meets other answers"}, "partly": set()} if faulty else {"healthy"},
    )
