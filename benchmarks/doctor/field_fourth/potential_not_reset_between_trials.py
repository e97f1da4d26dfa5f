"""The membrane potential is an attribute of the cell, and no trial starts from rest.

Source: kind: init_leaky / reset forgotten between batches, see
https://snntorch.readthedocs.io/en/latest/tutorials/tutorial_2.html
Data: evidence for left and right arrives in pulses; the choice is the sign of their sum.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, classifier

UNITS = 8


class Integrator(nn.Module):
    """Leaky units with a slow leak, driven by the evidence, and a linear choice."""

    def __init__(self, reset: bool, decay: float = 0.995) -> None:
        super().__init__()
        self.reset, self.decay = reset, decay
        self.drive = nn.Linear(1, UNITS)
        self.choice = nn.Linear(UNITS, 2)
        self.potential: Tensor | None = None

    def forward(self, evidence: Tensor) -> Tensor:
        v = self.potential
        if self.reset or v is None or v.size(0) != evidence.size(0):
            v = evidence.new_zeros(evidence.size(0), UNITS)
        for t in range(evidence.size(1)):
            v = self.decay * v + 0.2 * self.drive(evidence[:, t])
        self.potential = v.detach()
        return self.choice(v)


def clicks(count: int, steps: int = 12) -> tuple[Tensor, Tensor]:
    evidence = torch.randn(count, steps, 1)
    return evidence, (evidence.sum((1, 2)) > 0).long()


def make(faulty: bool) -> Case:
    batches = batched(*clicks(1024 + 256))
    return classifier(
        Integrator(reset=not faulty),
        batches[:32],
        batches[32:],
        {"right": {"state leak"}, "partly": {"samples mixed"}} if faulty else {"healthy"},
        epochs=8,
        good=0.95,
    )
