"""Tracks of shape (sample, step, feature) go to an LSTM that expects the step first.

Source: closeheat/pytorch-lstm-text-generation-tutorial issue 3 and HHTseng/video-classification
issue 15, on `batch_first`. The heading after a walk is the sum of all its turns, so that one step
alone does not tell it.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, forecaster


class HeadingModel(nn.Module):
    def __init__(self, batch_first: bool) -> None:
        super().__init__()
        self.embed = nn.Linear(2, 16)
        self.lstm = nn.LSTM(16, 24, num_layers=2, batch_first=batch_first)
        self.head = nn.Sequential(nn.Linear(24, 16), nn.ReLU(), nn.Linear(16, 2))

    def forward(self, track: Tensor) -> Tensor:
        out, _ = self.lstm(torch.relu(self.embed(track)))
        return self.head(out[:, -1])


def tracks(count: int, steps: int) -> tuple[Tensor, Tensor]:
    turn = 0.35 * torch.randn(count, steps)
    speed = torch.rand(count, steps)
    heading = turn.sum(1)
    return torch.stack((turn, speed), -1), torch.stack((heading.cos(), heading.sin()), -1)


def make(faulty: bool) -> Case:
    batches = batched(*tracks(32 * 44, 20))
    return forecaster(
        HeadingModel(batch_first=not faulty),
        batches[:36],
        batches[36:],
        {"right": {"time and batch swapped"}, "partly": {"samples mixed"}}
        if faulty
        else {"healthy", "no long dependency"},
        epochs=10,
        good=0.8,
    )
