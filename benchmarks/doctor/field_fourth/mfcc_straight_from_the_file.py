"""The MFCC of spoken words go into the network as computed, the first one at minus hundreds.

Source: GitHub b04901014/FT-w2v2-ser#6 (the loss falls only after the audio is normalised), and
Dannynis/xvector_pytorch#6.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, classifier

COEFFICIENTS, FRAMES, SPOKEN = 8, 25, 4


class WordRecognizer(nn.Module):
    """An LSTM over the frames of a spoken word."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(COEFFICIENTS, 32, batch_first=True)
        self.fc = nn.Linear(32, SPOKEN)

    def forward(self, frames: Tensor) -> Tensor:
        _, (h, _) = self.lstm(frames)
        return self.fc(h[-1])


def recordings(count: int) -> tuple[Tensor, Tensor]:
    """Return the coefficients of spoken words and the words.

    A word is a pair of sounds, of two each: a small rise of one of the upper coefficients. The
    first coefficient is the energy, the second the tilt; both vary with the recording.
    """
    mean = torch.tensor([-420.0, 110.0, -20.0, 30.0, -10.0, 5.0, -8.0, 3.0])
    spread = torch.tensor([90.0, 40.0, 12.0, 9.0, 4.0, 4.0, 4.0, 4.0])
    level = torch.randn(count, 1, COEFFICIENTS) * torch.tensor([1.0, 1.0, *[0.0] * 6])
    x = level + 0.5 * torch.randn(count, FRAMES, COEFFICIENTS)
    word = torch.randint(SPOKEN, (count,))
    for half, sound in ((slice(3, 9), word % 2), (slice(13, 19), word // 2)):
        x[torch.arange(count), half, 4 + sound] += 1.5
        x[torch.arange(count), half, 6 + sound] -= 1.5
    return mean + spread * x, word


def make(faulty: bool) -> Case:
    """Return the program; the right one subtracts the mean and divides by the deviation."""
    frames, word = recordings(1536)
    if not faulty:
        frames = (frames - frames.mean((0, 1))) / frames.std((0, 1))
    batches = batched(frames, word)
    return classifier(
        WordRecognizer(),
        batches[:40],
        batches[40:],
        {"right": {"inputs not scaled", "saturated"}, "partly": set()}
        if faulty
        else {"healthy", "no long dependency"},
        epochs=8,
        classes=SPOKEN,
    )
