"""Answers (batch, time, 1) minus targets (batch, time) broadcast where batch and time are equal.

Source: kind: iiask.com 34l57998, on the warning that target and input sizes differ. A step's
answer meets the targets of all steps of another sample.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, forecaster

SIZE = 32


class LevelEstimator(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(2, 24, batch_first=True)
        self.out = nn.Linear(24, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.rnn(x)[0])


def broadcast_error(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    x, y = batch
    return ((model(x) - y) ** 2).mean()


def error(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    x, y = batch
    return ((model(x).squeeze(-1) - y) ** 2).mean()


def tanks(count: int) -> tuple[Tensor, Tensor]:
    """Return the flow into a leaking tank and out of it, and its level at each step."""
    flow, level, levels = torch.rand(count, SIZE, 2), torch.zeros(count), []
    for t in range(SIZE):
        level = 0.93 * level + flow[:, t, 0] - flow[:, t, 1]
        levels.append(level)
    return flow, torch.stack(levels, 1)


def make(faulty: bool) -> Case:
    batches = batched(*tanks(SIZE * 40), size=SIZE)
    return forecaster(
        LevelEstimator(),
        batches[:32],
        batches[32:],
        {
            "right": {"target meets other answers"},
            "partly": {"answers do not fit the loss", "no dependence found"},
        }
        if faulty
        else {"healthy", "no long dependency"},
        epochs=12,
        loss=broadcast_error if faulty else error,
    )
