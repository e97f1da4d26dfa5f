"""The mask of the loss is inverted: it selects the missing readings, which are filled with zeros.

Source: ORNL/HydraGNN pull request 503, a masked loss for missing targets (kind: mask inverted).
Batches are dictionaries. The yield follows the dose given at the start of each record.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, fit

Batch = dict[str, Tensor]


class YieldModel(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(3, 32, batch_first=True)
        self.head = nn.Linear(32, 1)

    def forward(self, series: Tensor) -> Tensor:
        output, _ = self.rnn(series)
        return self.head(output)[..., 0]


def records(batches: int, steps: int = 30) -> list[Batch]:
    result = []
    for _ in range(batches):
        dose = torch.randn(32, 1)
        series = torch.randn(32, steps, 3)
        series[:, :, 0] = 0
        series[:, :2, 0] = dose
        target = dose * (1 + 0.3 * series[:, :, 1])
        seen = torch.rand(32, steps) < 0.5
        filled = torch.where(seen, target, torch.zeros(()))
        result.append({"series": series, "yield": filled, "seen": seen})
    return result


def loss_where(model: nn.Module, batch: Batch, mask: Tensor) -> Tensor:
    error = (model(batch["series"]) - batch["yield"]).square()
    return (error * mask).sum() / mask.sum()


def masked(model: nn.Module, batch: Batch) -> Tensor:
    return loss_where(model, batch, batch["seen"].float())


def masked_the_wrong_way(model: nn.Module, batch: Batch) -> Tensor:
    return loss_where(model, batch, 1 - batch["seen"].float())


def score(model: nn.Module, batches: list[Batch]) -> float:
    model.eval()
    with torch.no_grad():
        answers = torch.cat([model(b["series"])[b["seen"]] for b in batches])
    targets = torch.cat([b["yield"][b["seen"]] for b in batches])
    return 1 - float((answers - targets).square().mean() / targets.var(unbiased=False))


def make(faulty: bool) -> Case:
    train, test = records(36), records(8)
    loss = masked_the_wrong_way if faulty else masked
    return Case(
        YieldModel(),
        train,
        loss,
        lambda model: fit(model, train, loss, epochs=14, lr=0.005),
        lambda model: score(model, test),
        chance=0.0,
        good=0.85,
        accept={
            "right": {"no dependence found", "padding read"},
            "partly": {"answer at the wrong step", "target meets other answers"},
        }
        if faulty
        else {"healthy"},
    )
