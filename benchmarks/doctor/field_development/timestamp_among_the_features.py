"""A Unix timestamp, in seconds, is one of the features of a multivariate window.

Source: kind: stackoverflow, multivariate LSTM with unscaled columns predicts a constant.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, forecaster


class WindowNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(4, 24, batch_first=True)
        self.head = nn.Linear(24, 2)

    def forward(self, window: Tensor) -> Tensor:
        return self.head(self.gru(window)[0][:, -1])


def windows(count: int, stamped: bool) -> list[tuple[Tensor, Tensor]]:
    """Two targets: a value and a difference of values six steps before the end."""
    x = torch.randn(count, 14, 4)
    y = torch.stack([x[:, 7, 0], (x[:, 7, 1] - x[:, 8, 2]) / 1.4], 1)
    start = 1.6e9 + 3600.0 * torch.arange(count)[:, None]
    time = start + 3600.0 * torch.arange(14)
    x[..., 3] = time if stamped else (time - time.mean()) / time.std()
    order = torch.randperm(count)
    return batched(x[order], y[order], size=32)


def make(faulty: bool) -> Case:
    return forecaster(
        WindowNet(),
        windows(1280, faulty),
        windows(256, faulty),
        {"right": {"inputs not scaled"}, "partly": {"saturated"}} if faulty else {"healthy"},
        epochs=20,
        good=0.8,
    )
