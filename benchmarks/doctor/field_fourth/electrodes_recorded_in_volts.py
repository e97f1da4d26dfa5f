"""The signals of the electrodes are in volts: a hundred-thousandth of what the network expects.

Source: kind: MNE returns volts and not microvolts, "the loss stays at 0.69"
Data: an evoked wave on one of six channels at the start of a trial tells left from right.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, classifier

CHANNELS = 6


class EEGNet(nn.Module):
    """A GRU over the samples of a trial, and two classes."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(CHANNELS, 24, batch_first=True)
        self.classes = nn.Linear(24, 2)

    def forward(self, trial: Tensor) -> Tensor:
        return self.classes(self.gru(trial)[0][:, -1])


def trials(count: int, samples: int = 24) -> tuple[Tensor, Tensor]:
    """Trials in microvolts, and the side of the stimulus."""
    side = torch.randint(2, (count,))
    microvolts = 5 * torch.randn(count, samples, CHANNELS)
    wave = 20 * torch.sin(torch.linspace(0, torch.pi, 6))
    microvolts[:, 2:8, 1] += wave * (2.0 * side - 1)[:, None]
    return microvolts, side


def make(faulty: bool) -> Case:
    microvolts, side = trials(768 + 256)
    signal = 1e-6 * microvolts if faulty else microvolts / microvolts.std()
    batches = batched(signal, side)
    return classifier(
        EEGNet(),
        batches[:24],
        batches[24:],
        {"right": {"inputs not scaled"}, "partly": {"undertrained", "step size"}}
        if faulty
        else {"healthy", "no long dependency"},
        epochs=10,
    )
