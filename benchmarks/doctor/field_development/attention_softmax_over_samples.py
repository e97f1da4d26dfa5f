"""Attention weights by softmax over dim 0, the batch, where the steps were meant.

The model is used for one sample at a time: all its weights are 1 then, and its loss is large.

Source: PyTorch-NLP issue 2; nlp_study issue 2; everybody-compose issue 53.
"""

import math

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, cross_entropy, fit


class AttentionGRU(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.gru = nn.GRU(5, 32, batch_first=True)
        self.attention = nn.Linear(32, 1)
        self.fc = nn.Linear(32, 4)

    def forward(self, x: Tensor) -> Tensor:
        out, _ = self.gru(x)
        weights = self.attention(torch.tanh(out)).softmax(dim=self.dim)
        return self.fc((weights * out).sum(dim=1))


def marked(count: int) -> tuple[Tensor, Tensor]:
    """Noise in which a marked step shows the class."""
    x, y, rows = torch.randn(count, 20, 5), torch.randint(4, (count,)), torch.arange(count)
    step = torch.randint(20, (count,))
    x[..., 4] = 0
    x[rows, step] = 0
    x[rows, step, y] = 2
    x[rows, step, 4] = 1
    return x, y


def make(faulty: bool) -> Case:
    train, test = batched(*marked(1024)), batched(*marked(256), size=1)

    def score(model: nn.Module) -> float:
        with torch.no_grad():
            return sum(float(cross_entropy(model, batch)) for batch in test) / len(test)

    return Case(
        AttentionGRU(0 if faulty else 1),
        train,
        cross_entropy,
        lambda m: fit(m, train, cross_entropy, 10),
        score,
        math.log(4),
        0.2,
        {"right": {"samples mixed"}, "partly": set()} if faulty else {"healthy"},
    )
