"""The series is reshaped to (N, 1, 1): every sequence has one step, and there is no past.

Source: Stack Exchange (stats) 507591 and 338923; discuss.pytorch.org/t/98896.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, forecaster


class Forecaster(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(1, 32, batch_first=True)
        self.fc = nn.Linear(32, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.lstm(x)[0][:, -1])


def make(faulty: bool) -> Case:
    def windows(count: int) -> list[tuple[Tensor, Tensor]]:
        """Windows of demand, and its mean over the last six days."""
        demand = torch.randn(count + 8)
        x = demand.unfold(0, 8, 1)[:count, :, None]
        y = 2 * x[:, -6:].mean(dim=1)
        return batched(x[:, -1:] if faulty else x, y)

    one_step = {"right": {"one-step sequences"}, "partly": set[str]()}
    return forecaster(
        Forecaster(), windows(1024), windows(512), one_step if faulty else {"healthy"}
    )
