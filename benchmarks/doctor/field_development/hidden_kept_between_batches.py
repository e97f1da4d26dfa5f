"""self.hidden is carried from one shuffled batch to the next, between unrelated sequences.

Source: keras issue 1820; tensorflow issue 40067; bilm-tf issue 220.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, forecaster


class FirstReading(nn.Module):
    def __init__(self, kept: bool) -> None:
        super().__init__()
        self.kept = kept
        self.rnn = nn.GRU(1, 32, batch_first=True)
        self.fc = nn.Linear(32, 1)
        self.hidden: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        if not self.kept:
            self.hidden = None
        out, hidden = self.rnn(x, self.hidden)
        self.hidden = hidden.detach()
        return self.fc(out[:, -1]).squeeze(1)


def readings(count: int) -> list[tuple[Tensor, Tensor]]:
    """Batches of 3 to 8 readings; the target is the first one, which the others are compared to."""
    series = [torch.randn(32, int(torch.randint(3, 9, ())), 1) for _ in range(count)]
    return [(x, x[:, 0, 0]) for x in series]


def make(faulty: bool) -> Case:
    leak = {"right": {"state leak"}, "partly": {"samples mixed"}}
    return forecaster(
        FirstReading(faulty), readings(32), readings(16), leak if faulty else {"healthy"}
    )
