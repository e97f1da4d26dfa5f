"""The targets are prices around 50,000, and the steps of the optimiser are small.

Source: BrainJS/brain.js issue 528 and discuss.pytorch.org 98896 (kind: targets not normalised).
The output has not come near the prices when training ends. The price follows the offer that a flag
marked earlier in the record.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, forecaster


class PriceModel(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(2, 32, batch_first=True)
        self.head = nn.Sequential(nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 1))

    def forward(self, x: Tensor) -> Tensor:
        _, (state, _) = self.rnn(x)
        return self.head(state[-1])[:, 0]


def offers(count: int, steps: int = 18) -> tuple[Tensor, Tensor]:
    x = 0.5 * torch.randn(count, steps, 2)
    x[..., 1] = 0
    place = torch.randint(2, 10, (count,))
    x[torch.arange(count), place] = torch.stack((torch.randn(count), torch.full((count,), 2.0)), 1)
    return x, x[torch.arange(count), place, 0]


def make(faulty: bool) -> Case:
    x, offer = offers(32 * 52)
    price = 50_000 + 4_000 * offer
    batches = batched(x, price if faulty else (price - 50_000) / 4_000)
    return forecaster(
        PriceModel(),
        batches[:44],
        batches[44:],
        accept={
            "right": {"answers do not fit the loss", "undertrained"},
            "partly": {"inputs not scaled", "step size"},
        }
        if faulty
        else {"healthy"},
        epochs=26,
        lr=0.006,
        good=0.75,
    )
