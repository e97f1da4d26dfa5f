"""A siamese network: one layer reads both sequences; two loaders shuffle their sides separately.

Source: Element-Research/rnn, issue 320, "Problems in Sentence Matching Task": an encoder of two
sentences that does not learn. Two sequences match if one is a noisy, slower copy of the other.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.doctor.field_case import Case, batched, fit


class Siamese(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.LSTM(2, 24, batch_first=True)
        self.project = nn.Linear(24, 12)
        self.scale = nn.Linear(12, 1)

    def encode(self, x: Tensor) -> Tensor:
        _, (h, _) = self.encoder(x)
        return self.project(h[-1])

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        difference = self.encode(left) - self.encode(right)
        return self.scale(difference.square()).squeeze(-1)


def strokes(count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Strokes of a pen, written twice: the second time in more steps."""
    turns = torch.randint(4, (count, 4))
    same = torch.rand(count) < 0.5
    others = torch.where(same[:, None], turns, torch.randint(4, (count, 4)))
    same = (turns == others).all(1)
    directions = torch.tensor([[0.0, 1.0], [1.0, 0.0], [0.0, -1.0], [-1.0, 0.0]])
    left = directions[turns].repeat_interleave(3, 1)
    right = directions[others].repeat_interleave(4, 1)
    return (
        left + 0.2 * torch.randn_like(left),
        right + 0.2 * torch.randn_like(right),
        same.float(),
    )


def loss(model: nn.Module, batch: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    left, right, same = batch
    return F.binary_cross_entropy_with_logits(model(left, right), same)


def make(faulty: bool) -> Case:
    left, right, same = strokes(32 * 58)
    count = 32 * 48
    first = DataLoader(TensorDataset(left[:count], same[:count]), 32, shuffle=faulty)
    second = DataLoader(TensorDataset(right[:count]), 32, shuffle=faulty)
    train = [(a, b, y) for (a, y), (b,) in zip(first, second, strict=True)]
    test = batched(left[count:], right[count:], same[count:])

    def score(model: nn.Module) -> float:
        with torch.no_grad():
            right = [((model(a, b) > 0) == (y > 0)).float().mean() for a, b, y in test]
        return float(torch.stack(right).mean())

    return Case(
        Siamese(),
        train,
        loss,
        lambda model: fit(model, train, loss, epochs=20),
        score,
        chance=0.5,
        good=0.9,
        accept={"right": {"no dependence found"}, "partly": set()} if faulty else {"healthy"},
    )
