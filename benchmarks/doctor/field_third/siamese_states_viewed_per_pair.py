"""A siamese network views the final states (layer and direction, sample, unit) as one row a sample.

Source: seanbenhur/siamese_net issue 4 and tensorfreitas/Siamese-Networks-for-One-Shot-Learning
issue 11, losses that stay; kind: `h_n.view(batch, -1)`. Data: pairs of digits, four pixels a step;
the answer is whether the digits are the same.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.doctor.field_case import Case, batched, digits, fit


class Siamese(nn.Module):
    def __init__(self, view: bool) -> None:
        super().__init__()
        self.gru = nn.GRU(4, 32, batch_first=True, bidirectional=True)
        self.embed = nn.Linear(64, 24)
        self.scale = nn.Parameter(torch.tensor([2.0, 1.0]))
        self.view = view

    def encode(self, x: Tensor) -> Tensor:
        _, h_n = self.gru(x)
        states = h_n.view(len(x), -1) if self.view else h_n.transpose(0, 1).reshape(len(x), -1)
        return torch.tanh(self.embed(states))

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        distance = (self.encode(first) - self.encode(second)).square().mean(1)
        return self.scale[0] - self.scale[1].abs() * 8 * distance


def pairs(images: Tensor, classes: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    first = torch.randint(len(images), (count,))
    same = torch.rand(count) < 0.5
    partner = [
        int(torch.nonzero((classes == classes[i]) == s)[torch.randint(60, ())])
        for i, s in zip(first.tolist(), same.tolist(), strict=True)
    ]
    return images[first], images[torch.tensor(partner)], same.float()


def loss(model: nn.Module, batch: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    first, second, same = batch
    return F.binary_cross_entropy_with_logits(model(first, second), same)


def make(faulty: bool) -> Case:
    images, classes = digits()
    images = images.reshape(-1, 16, 4) * 2 - 1
    train = batched(*pairs(images[:1100], classes[:1100], 32 * 44))
    first, second, same = pairs(images[1100:], classes[1100:], 400)

    def right(model: nn.Module) -> float:
        with torch.no_grad():
            order = [model(first[i : i + 40], second[i : i + 40]) for i in range(0, 400, 40)]
        return ((torch.cat(order) > 0) == (same > 0)).float().mean().item()

    return Case(
        Siamese(view=faulty),
        train,
        loss,
        lambda model: fit(model, train, loss, epochs=12, lr=0.005),
        right,
        chance=0.5,
        good=0.8,
        accept={"right": {"samples mixed"}, "partly": {"time and batch swapped"}}
        if faulty
        else {"healthy", "no long dependency"},
    )
