"""The mask of a padded forecaster is inverted: the loss counts the padding alone.

Source: kind: stackoverflow, masked MSE for padded sequences.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, fit

Batch = dict[str, Tensor]


class RunningSum(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(3, 24, batch_first=True)
        self.out = nn.Linear(24, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.lstm(x)[0]).squeeze(-1)


def data(count: int) -> list[Batch]:
    """The target is the first feature of eight steps before, where there is one."""
    batches = []
    for _ in range(count):
        x, lengths = torch.randn(32, 24, 3), torch.randint(12, 22, (32,))
        padding = torch.arange(24) >= lengths[:, None]
        y = torch.cat([torch.zeros(32, 8), x[:, :-8, 0]], 1)
        batches.append(
            {
                "x": x.masked_fill(padding[..., None], 0),
                "y": y.masked_fill(padding, 0),
                "padding": padding,
                "lengths": lengths,
            }
        )
    return batches


def make(faulty: bool) -> Case:
    def loss(model: nn.Module, batch: Batch) -> Tensor:
        mask = batch["padding"] if faulty else ~batch["padding"]
        errors = (model(batch["x"]) - batch["y"]).square() * mask
        return errors.sum() / mask.sum()

    train, test = data(32), data(8)

    @torch.no_grad()
    def score(model: nn.Module) -> float:
        errors = [((model(b["x"]) - b["y"])[~b["padding"]]).square().mean() for b in test]
        spread = [b["y"][~b["padding"]].var() for b in test]
        return 1 - float(torch.stack(errors).mean() / torch.stack(spread).mean())

    return Case(
        RunningSum(),
        train,
        loss,
        lambda m: fit(m, train, loss, epochs=25),
        score,
        0.0,
        0.7,
        {"right": {"padding read"}, "partly": {"answer at the wrong step"}}
        if faulty
        else {"healthy"},
    )
