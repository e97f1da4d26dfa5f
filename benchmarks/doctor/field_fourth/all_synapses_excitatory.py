"""The weights of a rate network are all made positive: every unit runs into its ceiling.

Source: kind: Dale's law put on with abs(), and the inhibitory columns' minus left out
Data: two stimuli, one after the other; which one was stronger?
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, classifier

UNITS = 32


class DaleNetwork(nn.Module):
    """A rate network with excitatory and inhibitory units and positive weight magnitudes."""

    def __init__(self, inhibition: bool) -> None:
        super().__init__()
        signs = torch.ones(UNITS)
        if inhibition:
            signs[UNITS // 2 :] = -1.0
        self.register_buffer("signs", signs)
        self.recurrent = nn.Parameter(torch.randn(UNITS, UNITS) * 0.4)
        self.stimuli = nn.Linear(2, UNITS)
        self.readout = nn.Linear(UNITS, 2)

    def forward(self, stimuli: Tensor) -> Tensor:
        weights = self.recurrent.abs() * self.get_buffer("signs")
        rates = stimuli.new_zeros(stimuli.size(0), UNITS)
        for t in range(stimuli.size(1)):
            rates = torch.tanh(rates @ weights.T + self.stimuli(stimuli[:, t]))
        return self.readout(rates)


def trials(count: int, steps: int = 14) -> tuple[Tensor, Tensor]:
    strengths = torch.randn(count, 2)
    stimuli = 0.1 * torch.randn(count, steps, 2)
    stimuli[:, 1:4, 0] += strengths[:, :1]
    stimuli[:, 7:10, 1] += strengths[:, 1:]
    return stimuli, (strengths[:, 0] > strengths[:, 1]).long()


def make(faulty: bool) -> Case:
    batches = batched(*trials(1024 + 256))
    return classifier(
        DaleNetwork(inhibition=not faulty),
        batches[:32],
        batches[32:],
        {"right": {"saturated"}, "partly": {"vanishing gradient", "dead units"}}
        if faulty
        else {"healthy"},
        epochs=12,
        good=0.85,
        lr=0.003,
    )
