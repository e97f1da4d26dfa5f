"""Batches are (x, y, mask), and the state is multiplied by the mask of the missing values.

Source: keras-team/keras, issue 1569, "Masked RNNs return zero vectors for masked inputs and not a
valid state", and clab/dynet, issue 171: `h = mask * new + (1 - mask) * h` is right.
A patient's dose adds up over irregular visits.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, fit


class VisitModel(nn.Module):
    def __init__(self, hidden: int, erase: bool) -> None:
        super().__init__()
        self.hidden = hidden
        self.cell = nn.GRUCell(2, hidden)
        self.fc = nn.Linear(hidden, 1)
        self.erase = erase

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        h = x.new_zeros(x.size(0), self.hidden)
        outputs = []
        for t in range(x.size(1)):
            m = mask[:, t : t + 1]
            new = self.cell(x[:, t], h)
            h = new * m if self.erase else new * m + h * (1 - m)
            outputs.append(self.fc(h))
        return torch.cat(outputs, 1)


def patients(count: int, steps: int) -> tuple[Tensor, Tensor, Tensor]:
    mask = (torch.rand(count, steps) < 0.6).float()
    dose = (torch.rand(count, steps) < 0.4) * mask
    weight = torch.randn(count, steps) * mask
    level = 0.3 * dose.cumsum(1) - 1
    return torch.stack((dose, weight), -1), level, mask


def loss(model: nn.Module, batch: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    x, y, mask = batch
    return ((model(x, mask) - y).square() * mask).sum() / mask.sum()


def make(faulty: bool) -> Case:
    train, test = [patients(24, 30) for _ in range(36)], [patients(24, 30) for _ in range(10)]
    variance = float(torch.cat([y[m > 0] for _, y, m in test]).var())

    def score(model: nn.Module) -> float:
        with torch.no_grad():
            return 1 - sum(float(loss(model, b)) for b in test) / len(test) / variance

    return Case(
        VisitModel(24, erase=faulty),
        train,
        loss,
        lambda model: fit(model, train, loss, epochs=12),
        score,
        chance=0.0,
        good=0.9,
        accept={"right": {"forgetting"}, "partly": {"gradient cut"}} if faulty else {"healthy"},
    )
