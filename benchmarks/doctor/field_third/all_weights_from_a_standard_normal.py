"""`nn.init.normal_(p)` over all parameters leaves the standard deviation at its default of 1.

Source: kind: forum threads with a home-made init loop, after which a GRU's loss stands still.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, classifier


class StrideReader(nn.Module):
    def __init__(self, deviation: float) -> None:
        super().__init__()
        self.gru = nn.GRU(4, 64, batch_first=True)
        self.fc = nn.Linear(64, 4)
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=deviation)

    def forward(self, x: Tensor) -> Tensor:
        out, _ = self.gru(x)
        return self.fc(out[:, -1])


def strides(count: int, steps: int) -> tuple[Tensor, Tensor]:
    """Two pushes, early and in the middle, whose directions together are the class."""
    first, second = torch.randint(2, (2, count))
    x = 0.5 * torch.randn(count, steps, 4)
    x[:, 5, 0] = 2.0 * (2 * first - 1)
    x[:, 5, 1] = 2.0
    x[:, 14, 2] = 2.0 * (2 * second - 1)
    x[:, 14, 3] = 2.0
    return x, 2 * first + second


def make(faulty: bool) -> Case:
    batches = batched(*strides(32 * 44, 24))
    return classifier(
        StrideReader(1.0 if faulty else 0.1),
        batches[:36],
        batches[36:],
        accept={
            "right": {"saturated", "exploding gradient"},
            "partly": {"vanishing gradient", "forgetting"},
        }
        if faulty
        else {"healthy", "no long dependency"},
        epochs=14,
        classes=4,
        lr=0.005,
    )
