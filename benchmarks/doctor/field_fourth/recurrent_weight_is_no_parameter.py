"""The recurrent weights of a rate network are a plain tensor with requires_grad=True.

Source: kind: "my custom layer does not train", nn.Parameter forgotten
Data: two pulses of random sign come at fixed times; the target is their product, so that the
network must combine the first with the second.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, forecaster

UNITS = 32


class RateNetwork(nn.Module):
    """A leaky rate network in a loop over time; the readout reads the last rates."""

    def __init__(self, registered: bool, alpha: float = 0.3) -> None:
        super().__init__()
        self.alpha = alpha
        self.w_in = nn.Linear(2, UNITS)
        weights = 0.01 * torch.randn(UNITS, UNITS)
        self.w_rec = nn.Parameter(weights) if registered else weights.requires_grad_(True)
        self.readout = nn.Linear(UNITS, 1)

    def forward(self, current: Tensor) -> Tensor:
        v = current.new_zeros(current.size(0), UNITS)
        for t in range(current.size(1)):
            drive = self.w_in(current[:, t]) + v.tanh() @ self.w_rec.T
            v = (1 - self.alpha) * v + self.alpha * drive
        return self.readout(v.tanh()).squeeze(-1)


def pulses(count: int, steps: int = 20) -> tuple[Tensor, Tensor]:
    current = 0.05 * torch.randn(count, steps, 2)
    signs = torch.randint(2, (count, 2)) * 2.0 - 1
    current[:, 1:4, 0] += signs[:, :1]
    current[:, 13:16, 1] += signs[:, 1:]
    return current, signs.prod(1)


def make(faulty: bool) -> Case:
    batches = batched(*pulses(768 + 256))
    return forecaster(
        RateNetwork(registered=not faulty),
        batches[:24],
        batches[24:],
        {
            "right": {"not trained"},
            "partly": {"forgetting", "vanishing gradient", "gradient cut"},
        }
        if faulty
        else {"healthy"},
        epochs=20,
    )
