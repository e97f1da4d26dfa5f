"""Temperatures reach the GRU in kelvin: an offset of 293 under a swing of a few degrees.

Source: kind: forum threads on sensor data whose fix is to subtract the mean and divide by the
standard deviation.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, classifier


class OvenState(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(2, 24, batch_first=True)
        self.fc = nn.Linear(24, 4)

    def forward(self, x: Tensor) -> Tensor:
        out, _ = self.gru(x)
        return self.fc(out[:, -1])


def ovens(count: int, steps: int) -> tuple[Tensor, Tensor]:
    """The class is which of two probes was heated or cooled near the start."""
    y = torch.randint(4, (count,))
    x = 1.2 * torch.randn(count, steps, 2)
    rows = torch.arange(count)
    for step in range(2, 6):
        x[rows, step, y // 2] += 3.0 * (2 * (y % 2) - 1)
    return 293.0 + x, y


def make(faulty: bool) -> Case:
    x, y = ovens(32 * 46, 18)
    if not faulty:
        x = (x - x.mean((0, 1))) / x.std((0, 1))
    batches = batched(x, y)
    return classifier(
        OvenState(),
        batches[:36],
        batches[36:],
        accept={"right": {"inputs not scaled"}, "partly": {"saturated"}}
        if faulty
        else {"healthy", "no long dependency"},
        epochs=14,
        classes=4,
    )
