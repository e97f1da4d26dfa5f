"""The forget gate's bias is set in the third quarter, which in PyTorch belongs to the candidate.

Source: pytorch/pytorch issue 750, on where the forget gate stands. TensorFlow's order has it third.
The forget gate stays at one half, and the candidate is driven to its bound.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, classifier, cued

UNITS = 24


class CueReader(nn.Module):
    def __init__(self, quarter: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(4, UNITS, batch_first=True)
        self.out = nn.Linear(UNITS, 4)
        with torch.no_grad():
            self.lstm.bias_ih_l0[quarter * UNITS : (quarter + 1) * UNITS] = 4

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.lstm(x)[1][0][-1])


def make(faulty: bool) -> Case:
    batches = batched(*cued(32 * 40, 60, classes=4, at=2))
    return classifier(
        CueReader(2 if faulty else 1),
        batches[:32],
        batches[32:],
        {"right": {"forgetting", "vanishing gradient", "saturated"}, "partly": set()}
        if faulty
        else {"healthy"},
        epochs=24,
        classes=4,
    )
