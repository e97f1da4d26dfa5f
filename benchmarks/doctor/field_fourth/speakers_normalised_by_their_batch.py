"""The frames are normalised by the mean of their batch, and a batch holds one speaker at one level.

Source: kind: x - x.mean(0) in forward in place of the statistics of the training set
Data: the level of the voice, in all frames, is to be told; the recordings come session by session.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, forecaster

FRAMES = 16


class LoudnessGRU(nn.Module):
    """A GRU over normalised frames, and the level of the voice."""

    def __init__(self, by_batch: bool) -> None:
        super().__init__()
        self.by_batch = by_batch
        self.gru = nn.GRU(4, 20, batch_first=True)
        self.level = nn.Linear(20, 1)
        self.register_buffer("mean", torch.zeros(4))

    def forward(self, frames: Tensor) -> Tensor:
        mean = frames.mean(0, keepdim=True) if self.by_batch else self.get_buffer("mean")
        return self.level(self.gru(frames - mean)[0][:, -1]).squeeze(-1)


def sessions(count: int) -> tuple[Tensor, Tensor]:
    """Sessions of thirty-two utterances at nearly the same level."""
    level = torch.randn(count, 1) + 0.1 * torch.randn(count, 32)
    frames = 0.7 * torch.randn(count, 32, FRAMES, 4) + level[..., None, None]
    return frames.flatten(0, 1), level.flatten()


def make(faulty: bool) -> Case:
    batches = batched(*sessions(48 + 16))
    return forecaster(
        LoudnessGRU(by_batch=faulty),
        batches[:48],
        batches[48:],
        {"right": {"samples mixed"}, "partly": {"no dependence found"}}
        if faulty
        else {"healthy", "no long dependency"},
        epochs=6,
        good=0.85,
    )
