"""Windows of readings are viewed as sequences of length one before the layer.

Source: dafrie/lstm-load-forecasting issue 3, "the RNN only is usual MLP"; discuss.pytorch.org
98896, where the data have the shape (1790, 1, 3). Data: a valve that opens and closes; the answer
is how long it was open.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, forecaster


class OpenTime(nn.Module):
    def __init__(self, flatten: bool) -> None:
        super().__init__()
        self.gru = nn.GRU(3, 24, batch_first=True)
        self.fc = nn.Linear(24, 1)
        self.flatten = flatten

    def forward(self, x: Tensor) -> Tensor:
        samples, steps, features = x.shape
        if self.flatten:
            x = x.reshape(-1, 1, features)
        out, _ = self.gru(x)
        return self.fc(out).view(samples, steps)


def valve(count: int, steps: int) -> tuple[Tensor, Tensor]:
    x = torch.randn(count, steps, 3)
    opened = (x[..., 0] > 0).float()
    time = (2 * opened - 1).cumsum(1) / 4
    return x, time


def make(faulty: bool) -> Case:
    batches = batched(*valve(32 * 36, 16))
    return forecaster(
        OpenTime(flatten=faulty),
        batches[:28],
        batches[28:],
        {"right": {"one-step sequences"}, "partly": set()}
        if faulty
        else {"healthy", "no long dependency"},
        epochs=12,
        good=0.85,
    )
