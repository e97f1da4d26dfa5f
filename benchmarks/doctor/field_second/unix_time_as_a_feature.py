"""The time in seconds since 1970 is a feature beside the temperature, without any scaling.

Source: BrainJS/brain.js issue 528, features of very different scales (kind). Values of 1.7 billion
saturate all gates. The target is the warmest reading of the record.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, forecaster


class WarmestReading(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(2, 32, batch_first=True)
        self.head = nn.Linear(32, 1)

    def forward(self, x: Tensor) -> Tensor:
        output, _ = self.rnn(x)
        return self.head(output[:, -1])[:, 0]


def readings(count: int, scaled: bool, steps: int = 24) -> tuple[Tensor, Tensor]:
    start = 1.7e9 + 3e7 * torch.rand(count, 1)
    seconds = start + 3600 * torch.arange(steps)
    temperature = torch.randn(count, 1) + torch.randn(count, steps)
    if scaled:
        seconds = (seconds - 1.715e9) / 1e7
    target = temperature.amax(1) - 2
    return torch.stack((seconds, temperature), dim=2), target


def make(faulty: bool) -> Case:
    batches = batched(*readings(32 * 48, scaled=not faulty))
    return forecaster(
        WarmestReading(),
        batches[:40],
        batches[40:],
        accept={"right": {"inputs not scaled"}, "partly": {"saturated"}}
        if faulty
        else {"healthy", "no long dependency"},
        epochs=14,
        lr=0.006,
        good=0.8,
    )
