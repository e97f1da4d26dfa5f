"""An LSTM with torch's initial biases is to keep a set point over a hundred steps.

Source: kind: "LSTM does not learn long sequences", advice to raise the forget gate's bias
Data: the set point is given at the first step and asked for at the last, disturbances between.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, forecaster

UNITS, STEPS = 16, 100


class Controller(nn.Module):
    """An LSTM over the measurements of a plant, and the actuator's last position."""

    def __init__(self, keep: bool) -> None:
        super().__init__()
        self.lstm = nn.LSTM(3, UNITS, batch_first=True)
        self.actuator = nn.Linear(UNITS, 1)
        if keep:
            with torch.no_grad():
                biases = self.lstm.get_parameter("bias_ih_l0")
                biases[:UNITS] = -4.0  # the input gate
                biases[UNITS : 2 * UNITS] = 5.0  # the forget gate

    def forward(self, measured: Tensor) -> Tensor:
        return self.actuator(self.lstm(measured)[0][:, -1]).squeeze(-1)


def plant(count: int) -> tuple[Tensor, Tensor]:
    measured = 0.3 * torch.randn(count, STEPS, 3)
    point = torch.randint(2, (count,)) * 2.0 - 1
    measured[:, 0, 0] = point
    measured[:, 0, 2] = 3.0
    measured[:, 1:, 2] = 0.0
    return measured, point


def make(faulty: bool) -> Case:
    batches = batched(*plant(512 + 128))
    return forecaster(
        Controller(keep=not faulty),
        batches[:16],
        batches[16:],
        {"right": {"forgetting", "vanishing gradient"}, "partly": {"undertrained"}}
        if faulty
        else {"healthy"},
        epochs=14,
    )
