"""All biases of an LSTM are set to minus two, those of the forget gate too.

Source: kind: pytorch/pytorch issue 20102 on the bias of the forget gate, and a loop over all names
with "bias" as in discuss.pytorch.org 159152. Data: a calibration is shown at the first steps.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, forecaster


class Calibrated(nn.Module):
    def __init__(self, bias: float | None) -> None:
        super().__init__()
        self.lstm = nn.LSTM(2, 24, batch_first=True)
        self.fc = nn.Linear(26, 1)
        if bias is not None:
            for name, parameter in self.lstm.named_parameters():
                if "bias" in name:
                    nn.init.constant_(parameter, bias)

    def forward(self, x: Tensor) -> Tensor:
        out, _ = self.lstm(x)
        return self.fc(torch.cat((out, x), -1))[:, -5:, 0]


def sensors(count: int, steps: int) -> tuple[Tensor, Tensor]:
    offset = torch.randn(count, 1)
    x = 0.5 * torch.randn(count, steps, 2)
    x[:, :2, 0] = offset
    x[..., 1] = 0
    x[:, :2, 1] = 2
    return x, offset + 0.2 * x[:, -5:, 0]


def make(faulty: bool) -> Case:
    batches = batched(*sensors(32 * 40, 18))
    return forecaster(
        Calibrated(-2.0 if faulty else None),
        batches[:32],
        batches[32:],
        {"right": {"forgetting"}, "partly": {"vanishing gradient"}} if faulty else {"healthy"},
        epochs=18,
        good=0.7,
    )
