"""The moving average among the features is centred: it contains the day to be forecast.

Source: https://github.com/deshpandenu/Time-Series-Forecasting-of-Amazon-Stock-Prices-using-Neural-Networks-LSTM-and-GAN-/issues/2
Data: sales that depend on the promotion of four days before; in use the average must end today.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, forecaster

DAYS = 12


class SalesGRU(nn.Module):
    """A GRU over sales, promotions and the smoothed sales; the answer is tomorrow's sales."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(3, 24, batch_first=True)
        self.out = nn.Linear(24, 1)

    def forward(self, window: Tensor) -> Tensor:
        return self.out(self.gru(window)[0][:, -1]).squeeze(-1)


def shop(count: int, centred: bool) -> tuple[Tensor, Tensor]:
    """Windows of twelve days, and the sales of the day after."""
    promotion = torch.randn(count, DAYS + 8)
    sales = 0.3 * torch.randn(count, DAYS + 8)
    sales[:, 4:] += promotion[:, :-4]
    last = slice(7, 7 + DAYS)
    shift = 1 if centred else 0
    smoothed = torch.stack([sales[:, 5 + i + shift : 5 + i + shift + DAYS] for i in range(3)])
    features = torch.stack([sales[:, last], promotion[:, last], smoothed.mean(0)], -1)
    return features, sales[:, 7 + DAYS]


def make(faulty: bool) -> Case:
    train = batched(*shop(1024, centred=faulty))
    test = batched(*shop(256, centred=False))
    return forecaster(
        SalesGRU(),
        train,
        test,
        {"right": {"target seen"}, "partly": {"no long dependency"}}
        if faulty
        else {"healthy", "no long dependency"},
        epochs=14,
        good=0.75,
    )
