"""LayerNorm(1) in front of the GRU: a series of one feature becomes a constant.

Source: https://github.com/pytorch/pytorch/issues/108956
Data: a noise-driven series; the target is its value five steps before, plus a little of the last.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, forecaster

WINDOW = 16


class NormalisedGRU(nn.Module):
    """A normalised window, a GRU and a linear head."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm
        self.gru = nn.GRU(1, 24, batch_first=True)
        self.head = nn.Linear(24, 1)

    def forward(self, window: Tensor) -> Tensor:
        out, _ = self.gru(self.norm(window))
        return self.head(out[:, -1]).squeeze(-1)


class OverTime(nn.Module):
    """A layer normalisation over the steps of a window."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(WINDOW)

    def forward(self, window: Tensor) -> Tensor:
        return self.norm(window.transpose(1, 2)).transpose(1, 2)


def series(count: int) -> tuple[Tensor, Tensor]:
    x = torch.randn(count, WINDOW, 1)
    return x, 0.9 * x[:, -6, 0] + 0.3 * x[:, -1, 0]


def make(faulty: bool) -> Case:
    batches = batched(*series(1024 + 256))
    return forecaster(
        NormalisedGRU(nn.LayerNorm(1) if faulty else OverTime()),
        batches[:32],
        batches[32:],
        {
            "right": {"gradient cut", "dead units"},
            "partly": {"inputs not scaled", "forgetting", "vanishing gradient"},
        }
        if faulty
        else {"healthy", "no long dependency"},
        epochs=14,
        good=0.75,
    )
