"""An LSTM reads the raw counts of an accelerometer, 16384 for each g.

Source: kind: austineaero/Remaining-Useful-Life-RUL-Estimation issue 19, "LSTMs hate unscaled data".
Data: three axes with gravity on one of them; the class is the axis that is shaken first.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, classifier

COUNTS_PER_G = 16384.0


class ActivityClassifier(nn.Module):
    def __init__(self, divisor: float) -> None:
        super().__init__()
        self.rnn = nn.LSTM(3, 24, batch_first=True)
        self.out = nn.Linear(24, 3)
        self.divisor = divisor

    def forward(self, counts: Tensor) -> Tensor:
        return self.out(self.rnn(counts / self.divisor)[0][:, -1])


def movements(count: int, steps: int) -> tuple[Tensor, Tensor]:
    """Return counts with a burst on one axis and a later one on any, and the first one's axis."""
    g, y = 0.3 * torch.randn(count, steps, 3), torch.randint(3, (count,))
    g[..., 2] += 1
    row, start = torch.arange(count), torch.randint(4, (count,))
    later, then = torch.randint(9, steps - 4, (count,)), torch.randint(3, (count,))
    for k in range(4):
        g[row, start + k, y] += 2.0
        g[row, later + k, then] += 2.0
    return (g * COUNTS_PER_G).round(), y


def make(faulty: bool) -> Case:
    batches = batched(*movements(32 * 44, 20))
    return classifier(
        ActivityClassifier(1.0 if faulty else COUNTS_PER_G),
        batches[:36],
        batches[36:],
        {"right": {"inputs not scaled"}, "partly": {"saturated"}} if faulty else {"healthy"},
        epochs=24,
        classes=3,
    )
