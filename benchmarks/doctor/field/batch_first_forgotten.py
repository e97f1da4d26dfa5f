"""A classifier gets (batch, time, features), and its layer was built without `batch_first`.

Source: pytorch/pytorch, issue 1538, "different result on LSTM whether using batch_first", and
Ligouhai-bigone/Sentiment-Analysis-Chinese-pytorch, issue 1.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, accuracy, batched, cross_entropy, fit


class GestureNet(nn.Module):
    def __init__(self, in_dim: int, hidden_dim: int, n_class: int, batch_first: bool) -> None:
        super().__init__()
        self.lstm = nn.LSTM(in_dim, hidden_dim, 2, batch_first=batch_first)
        self.classifier = nn.Sequential(
            nn.Linear(hidden_dim, 16), nn.ReLU(), nn.Linear(16, n_class)
        )

    def forward(self, x: Tensor) -> Tensor:
        out, _ = self.lstm(x)
        return self.classifier(out[:, -1, :])


def gestures(count: int, steps: int) -> tuple[Tensor, Tensor]:
    """Three axes of an accelerometer; the class is the order of three pushes."""
    y = torch.randint(6, (count,))
    orders = torch.tensor([[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]])
    x = 0.2 * torch.randn(count, steps, 3)
    third = steps // 3
    rows = torch.arange(count)
    for k in range(3):
        at = k * third + torch.randint(third - 1, (count,))
        x[rows, at, orders[y, k]] += 2
        x[rows, at + 1, orders[y, k]] -= 1
    return x, y


def make(faulty: bool) -> Case:
    batches = batched(*gestures(32 * 36, 24))
    train, test = batches[:28], batches[28:]
    return Case(
        GestureNet(3, 24, 6, batch_first=not faulty),
        train,
        cross_entropy,
        lambda model: fit(model, train, cross_entropy, epochs=15),
        lambda model: accuracy(model, test),
        chance=1 / 6,
        good=0.9,
        accept={"right": {"time and batch swapped"}, "partly": {"samples mixed"}}
        if faulty
        else {"healthy"},
    )
