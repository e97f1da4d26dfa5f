"""A forecaster answers a column of prices, and the loss subtracts a row of targets from it.

Source: discuss.pytorch.org 202270, the warning about a target size that differs from the input
size. Data: bids of a day with a few marked auctions; the price is the sum of the marked bids.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, forecaster


class PriceModel(nn.Module):
    def __init__(self, keep_column: bool) -> None:
        super().__init__()
        self.lstm = nn.LSTM(2, 24, batch_first=True)
        self.fc = nn.Linear(24, 1)
        self.keep_column = keep_column

    def forward(self, bids: Tensor) -> Tensor:
        out, _ = self.lstm(bids)
        price = self.fc(out[:, -1])
        return price if self.keep_column else price.squeeze(1)


def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    bids, price = batch
    return (model(bids) - price).square().mean()


def days(count: int, steps: int) -> tuple[Tensor, Tensor]:
    bid = torch.randn(count, steps)
    marked = (torch.rand(count, steps) < 0.2).float()
    return torch.stack((bid, marked), -1), (bid * marked).sum(1) / 2


def make(faulty: bool) -> Case:
    batches = batched(*days(32 * 44, 18))
    return forecaster(
        PriceModel(keep_column=faulty),
        batches[:36],
        batches[36:],
        {"right": {"target meets other answers"}, "partly": {"answers do not fit the loss"}}
        if faulty
        else {"healthy", "no long dependency"},
        epochs=14,
        loss=loss,
        good=0.85,
    )
