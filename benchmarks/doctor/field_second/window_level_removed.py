"""Each window is standardised by its own mean and deviation, which removes what the target needs.

Source: BlackArbsCEO/Adv_Fin_ML_Exercises issue 33, on how to scale the inputs of an LSTM regressor.
The target is the demand on the next day, which follows the level and the swing of the window.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, forecaster


class DemandForecaster(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(1, 24, batch_first=True)
        self.head = nn.Linear(24, 1)

    def forward(self, x: Tensor) -> Tensor:
        _, (state, _) = self.rnn(x)
        return self.head(state[-1])[:, 0]


def demand(count: int, standardise: bool, steps: int = 28) -> tuple[Tensor, Tensor]:
    level, swing = torch.randn(count), torch.rand(count) + 0.3
    x = level[:, None] + swing[:, None] * 1.5 * torch.randn(count, steps)
    target = level + 0.1 * torch.randn(count)
    if standardise:
        x = (x - x.mean(1, keepdim=True)) / x.std(1, keepdim=True)
    return x[..., None], target


def make(faulty: bool) -> Case:
    batches = batched(*demand(32 * 52, standardise=faulty))
    return forecaster(
        DemandForecaster(),
        batches[:44],
        batches[44:],
        accept={"right": {"no dependence found"}, "partly": {"inputs not scaled"}}
        if faulty
        else {"healthy", "no long dependency"},
        epochs=12,
        lr=0.005,
        good=0.75,
    )
