"""Each window is standardised by its own mean and deviation, and its level is the target.

Source: kind: threads on forecasters whose scaler is fitted per window.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, forecaster


class LevelNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(1, 24, num_layers=2, batch_first=True)
        self.head = nn.Linear(24, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(x)[0][:, -1]).squeeze(-1)


def windows(count: int, own: bool) -> list[tuple[Tensor, Tensor]]:
    """The target is the mean level of the first half of a noisy window."""
    level = torch.randn(count, 1)
    x = level + torch.randn(count, 20)
    target = level[:, 0] + 0.1 * torch.randn(count)
    if own:
        x = (x - x.mean(1, keepdim=True)) / x.std(1, keepdim=True)
    return batched(x[..., None], target, size=32)


def make(faulty: bool) -> Case:
    return forecaster(
        LevelNet(),
        windows(1280, faulty),
        windows(256, faulty),
        {"right": {"no dependence found"}, "partly": {"inconclusive"}}
        if faulty
        else {"healthy", "no long dependency"},
        epochs=12,
        good=0.8,
    )
