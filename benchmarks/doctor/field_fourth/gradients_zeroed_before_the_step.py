"""zero_grad() stands between backward() and step().

Source: https://github.com/patrickloeber/pytorchTutorial/issues/19 (the order of the three calls)
Data: the load of a network six hours after a switching signal.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.doctor.field_case import Case, batched, explained

HOURS, LAG = 18, 6


class LoadGRU(nn.Module):
    """A GRU over the hours of a day, with a forecast at each hour."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(2, 24, batch_first=True)
        self.out = nn.Linear(24, 1)

    def forward(self, signals: Tensor) -> Tensor:
        return self.out(self.gru(signals)[0]).squeeze(-1)


def loads(count: int) -> tuple[Tensor, Tensor]:
    signals = torch.randn(count, HOURS, 2)
    signals[..., 0] = signals[..., 0].sign()
    load = torch.zeros(count, HOURS)
    load[:, LAG:] = signals[:, :-LAG, 0]
    return signals, load


def loss_fn(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """The squared error of the hours that have a signal six hours before."""
    signals, load = batch
    return F.mse_loss(model(signals)[:, LAG:], load[:, LAG:])


def make(faulty: bool) -> Case:
    def training_step(model, optimizer, batch) -> None:
        if not faulty:
            optimizer.zero_grad()
        loss_fn(model, batch).backward()
        if faulty:
            optimizer.zero_grad()
        optimizer.step()

    batches = batched(*loads(640 + 256))
    train, test = batches[:20], batches[20:]

    def adam(model):
        return torch.optim.Adam(model.parameters(), lr=0.01)

    def fit(model: nn.Module) -> None:
        optimizer = adam(model)
        for _ in range(25):
            for batch in train:
                training_step(model, optimizer, batch)

    return Case(
        LoadGRU(),
        train,
        loss_fn,
        fit,
        lambda model: explained(model, test),
        chance=0.0,
        good=0.8,
        accept={"right": {"not trained"}, "partly": {"undertrained", "step size"}}
        if faulty
        else {"healthy", "no long dependency"},
        options=lambda model: {"training_step": training_step, "optimizer": adam},
    )
