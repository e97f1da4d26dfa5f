"""Missing targets are NaN, and the loss leaves them out; the faulty cell gets no state.

Source: Rebuilt, no single thread: time series with gaps.
"""

from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, forecaster


class Delay(nn.Module):
    def __init__(self, passed: bool) -> None:
        super().__init__()
        self.passed = passed
        self.cell = nn.GRUCell(1, 32)
        self.fc = nn.Linear(32, 1)

    def forward(self, x: Tensor) -> Tensor:
        start = hidden = x.new_zeros(len(x), 32)
        out = []
        for t in range(x.shape[1]):
            hidden = self.cell(x[:, t], hidden if self.passed else start)
            out.append(hidden)
        return self.fc(torch.stack(out, dim=1))


def masked_error(model: nn.Module, batch: Any) -> Tensor:
    x, y = batch
    known = ~y.isnan()
    return (model(x)[known] - y[known]).square().mean()


def delayed(count: int, missing: float) -> list[tuple[Tensor, Tensor]]:
    """Series and their values three steps ago, of which a share is missing."""
    x = torch.randn(count, 14, 1)
    y = torch.zeros_like(x)
    y[:, 3:] = x[:, :-3]
    y[torch.rand(count, 14, 1) < missing] = torch.nan
    return batched(x, y)


def make(faulty: bool) -> Case:
    dropped = {"right": {"forgetting"}, "partly": {"one-step sequences"}}
    return forecaster(
        Delay(not faulty),
        delayed(1024, 0.2),
        delayed(256, 0),
        dropped if faulty else {"healthy", "no long dependency"},
        epochs=15,
        loss=masked_error,
    )
