"""The shuffle of a batch indexes its second axis: the frames of every utterance are permuted.

Source: kind: x[:, perm] for x[perm] in a hand-written loader
Data: a tone that rises or falls: the same frames in both classes, in the other order.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, classifier

FRAMES = 16


class Intonation(nn.Module):
    """A GRU over the frames; question or statement."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(2, 20, batch_first=True)
        self.kind = nn.Linear(20, 2)

    def forward(self, frames: Tensor) -> Tensor:
        return self.kind(self.gru(frames)[0][:, -1])


def contours(count: int) -> tuple[Tensor, Tensor]:
    kind = torch.randint(2, (count,))
    slope = (2.0 * kind - 1)[:, None] * torch.linspace(-1, 1, FRAMES)
    frames = 0.5 * torch.randn(count, FRAMES, 2)
    frames[..., 0] += slope
    return frames, kind


def shuffled(batch: tuple[Tensor, Tensor], faulty: bool) -> tuple[Tensor, Tensor]:
    """The batch in a random order; a time axis in random order in the faulty program."""
    frames, kind = batch
    if faulty:
        return torch.stack([f[torch.randperm(FRAMES)] for f in frames]), kind
    order = torch.randperm(len(kind))
    return frames[order], kind[order]


def make(faulty: bool) -> Case:
    batches = batched(*contours(768 + 256))
    return classifier(
        Intonation(),
        [shuffled(batch, faulty) for batch in batches[:24]],
        batches[24:],
        {"right": {"no dependence found"}, "partly": {"answer at the wrong step"}}
        if faulty
        else {"healthy", "no long dependency"},
        epochs=8,
    )
