"""The rates are detached for a recording, and the readout and the loss read the recording.

Source: kind: "element 0 does not require grad" cured at the wrong place, tensors kept for plots
Data: delayed match to sample: two of six stimuli, with a delay between them; are they the same?
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, classifier

UNITS, STIMULI = 24, 4


class RateRNN(nn.Module):
    """A rate network that keeps the history of its rates."""

    def __init__(self, detach: bool) -> None:
        super().__init__()
        self.detach = detach
        self.inputs = nn.Linear(STIMULI, UNITS)
        self.recurrent = nn.Linear(UNITS, UNITS, bias=False)
        nn.init.orthogonal_(self.recurrent.weight)
        self.readout = nn.Linear(UNITS, 2)
        self.recording: list[Tensor] = []

    def forward(self, stimulus: Tensor) -> Tensor:
        rates, recording = stimulus.new_zeros(stimulus.size(0), UNITS), []
        for t in range(stimulus.size(1)):
            rates = torch.tanh(self.inputs(stimulus[:, t]) + self.recurrent(rates))
            recording.append(rates.detach() if self.detach else rates)
        self.recording = [r.detach() for r in recording]
        return self.readout(torch.stack(recording, 1)[:, -1])


def trials(count: int, steps: int = 10) -> tuple[Tensor, Tensor]:
    stimulus = 0.1 * torch.randn(count, steps, STIMULI)
    first, second = torch.randint(STIMULI, (2, count))
    same = torch.rand(count) < 0.5
    second = torch.where(same, first, second)
    rows = torch.arange(count)
    stimulus[rows, 0, first] += 1
    stimulus[rows, steps - 2, second] += 1
    return stimulus, (first == second).long()


def make(faulty: bool) -> Case:
    batches = batched(*trials(1024 + 256))
    return classifier(
        RateRNN(detach=faulty),
        batches[:32],
        batches[32:],
        {"right": {"gradient cut", "not trained"}, "partly": set()} if faulty else {"healthy"},
        epochs=25,
        lr=0.005,
    )
