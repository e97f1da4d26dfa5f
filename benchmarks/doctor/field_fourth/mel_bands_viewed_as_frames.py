"""A spectrogram of (sample, band, frame) is viewed as (sample, frame, band), not transposed.

Source: https://github.com/jessicayung/blog-code-snippets/issues/6 and
https://github.com/seorim0/DCCRN-with-various-loss-functions/issues/7
Data: each frame has a peak in the band of its phone; the tag of a frame is the phone of three
frames before.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, classifier

BANDS, FRAMES, DELAY = 8, 24, 3


class PhoneTagger(nn.Module):
    """A GRU over the frames of a spectrogram, with one phone per frame."""

    def __init__(self, transpose: bool) -> None:
        super().__init__()
        self.transpose = transpose
        self.gru = nn.GRU(BANDS, 32, batch_first=True)
        self.phones = nn.Linear(32, BANDS)

    def forward(self, mel: Tensor) -> Tensor:
        if self.transpose:
            frames = mel.transpose(1, 2)
        else:
            frames = mel.view(mel.size(0), mel.size(2), mel.size(1))
        return self.phones(self.gru(frames)[0])


def speech(count: int) -> tuple[Tensor, Tensor]:
    phones = torch.randint(BANDS, (count, FRAMES))
    mel = 0.2 * torch.randn(count, FRAMES, BANDS) + nn.functional.one_hot(phones, BANDS)
    tags = torch.full_like(phones, -100)
    tags[:, DELAY:] = phones[:, :-DELAY]
    return mel.transpose(1, 2).contiguous(), tags


def make(faulty: bool) -> Case:
    batches = batched(*speech(768 + 256))
    return classifier(
        PhoneTagger(transpose=not faulty),
        batches[:24],
        batches[24:],
        {
            "right": {"time and batch swapped", "answer at the wrong step"},
            "partly": {"target meets other answers", "no dependence found"},
        }
        if faulty
        else {"healthy", "no long dependency"},
        epochs=16,
        classes=BANDS,
    )
