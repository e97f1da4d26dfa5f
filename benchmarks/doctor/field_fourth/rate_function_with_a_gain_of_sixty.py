"""The rate function of a population has a gain of sixty: its units are fully on or fully off.

Source: kind: transfer function fitted to one neuron and put into a trained network
Data: two pulses of current, each up or down, with a pause between; do they match?
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, classifier

UNITS = 24


class Population(nn.Module):
    """Rates with a sigmoid transfer function of the current, and a linear decision."""

    def __init__(self, gain: float) -> None:
        super().__init__()
        self.gain = gain
        self.pulse = nn.Linear(2, UNITS)
        self.recurrent = nn.Linear(UNITS, UNITS)
        self.decision = nn.Linear(UNITS, 2)

    def forward(self, current: Tensor) -> Tensor:
        rate = current.new_full((current.size(0), UNITS), 0.5)
        for t in range(current.size(1)):
            drive = self.pulse(current[:, t]) + self.recurrent(2 * rate - 1)
            rate = torch.sigmoid(self.gain * drive)
        return self.decision(rate)


def pulses(count: int, steps: int = 14) -> tuple[Tensor, Tensor]:
    current = 0.1 * torch.randn(count, steps, 2)
    ups = torch.randint(2, (count, 2))
    current[:, 1:3, 0] += 2.0 * ups[:, :1] - 1
    current[:, 10:12, 1] += 2.0 * ups[:, 1:] - 1
    return current, (ups[:, 0] == ups[:, 1]).long()


def make(faulty: bool) -> Case:
    batches = batched(*pulses(768 + 256))
    return classifier(
        Population(gain=60.0 if faulty else 2.5),
        batches[:24],
        batches[24:],
        {
            "right": {"saturated"},
            "partly": {"exploding gradient", "vanishing gradient", "dead units"},
        }
        if faulty
        else {"healthy"},
        epochs=20,
    )
