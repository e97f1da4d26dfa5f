"""Frames of a convolution, permuted to (batch, time, channel), enter a GRU that is time-first.

Source: kind: keunwoochoi/music-auto_tagging-keras issue 9 on the axes between CNN and RNN.
Every frame is tagged with the mode that the last marker set.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, classifier


class FrameTagger(nn.Module):
    def __init__(self, batch_first: bool) -> None:
        super().__init__()
        self.conv = nn.Conv1d(5, 16, 3, padding=1)
        self.rnn = nn.GRU(16, 24, num_layers=2, batch_first=batch_first)
        self.out = nn.Linear(24, 3)

    def forward(self, frames: Tensor) -> Tensor:
        features = torch.relu(self.conv(frames.transpose(1, 2)))
        return self.out(self.rnn(features.permute(0, 2, 1))[0])


def speech(count: int, steps: int) -> tuple[Tensor, Tensor]:
    """Return noisy frames with rare markers of three modes, and the mode of each frame."""
    marker = torch.rand(count, steps) < 0.07
    marker[:, 0] = True
    mode = torch.randint(3, (count, steps))
    frames = 0.4 * torch.randn(count, steps, 5)
    frames[..., :3] += 2.5 * nn.functional.one_hot(mode, 3) * marker[..., None]
    last = torch.where(marker, torch.arange(steps), 0).cummax(1).values
    return frames, mode.gather(1, last)


def make(faulty: bool) -> Case:
    batches = batched(*speech(24 * 40, 40), size=24)
    return classifier(
        FrameTagger(batch_first=not faulty),
        batches[:32],
        batches[32:],
        {"right": {"time and batch swapped"}, "partly": {"samples mixed"}}
        if faulty
        else {"healthy", "no long dependency"},
        epochs=8,
        classes=3,
    )
