"""Log-mel frames of -80 to 0 decibels go into an LSTM as they are.

Source: kind: librosa.power_to_db without mean and variance normalisation
Data: which of four bands is loud in the first frames decides the spoken command.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, classifier

BANDS = 16


class CommandLSTM(nn.Module):
    """An LSTM over the frames of an utterance, and the command after the last one."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(BANDS, 24, batch_first=True)
        self.command = nn.Linear(24, 4)

    def forward(self, frames: Tensor) -> Tensor:
        return self.command(self.lstm(frames)[0][:, -1])


def utterances(count: int, frames: int = 18) -> tuple[Tensor, Tensor]:
    """Frames in decibels below full scale, and the command."""
    command = torch.randint(4, (count,))
    decibels = -50 + 8 * torch.randn(count, frames, BANDS)
    rows = torch.arange(count)
    for t in range(1, 5):
        decibels[rows, t, 3 * command + 2] += 22
    return decibels.clamp(-80, 0), command


def make(faulty: bool) -> Case:
    decibels, command = utterances(768 + 256)
    frames = decibels if faulty else (decibels - decibels.mean()) / decibels.std()
    batches = batched(frames, command)
    return classifier(
        CommandLSTM(),
        batches[:24],
        batches[24:],
        {"right": {"inputs not scaled", "saturated"}, "partly": {"vanishing gradient"}}
        if faulty
        else {"healthy", "no long dependency"},
        epochs=20,
        classes=4,
    )
