"""The state stays in `self.hidden` from batch to batch, and the batches are shuffled.

Source: yikangshen/Ordered-Neurons, issue 13, and gabrielloye/RNN-walkthrough, issue 3: a state
that is only detached, as in the language model example, on sequences without any order.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, explained, fit, squared_error


class VisitCounter(nn.Module):
    def __init__(self, keep: bool) -> None:
        super().__init__()
        self.lstm = nn.LSTM(4, 20, batch_first=True)
        self.head = nn.Linear(20, 1)
        self.keep = keep
        self.hidden: tuple[Tensor, Tensor] | None = None

    def forward(self, x: Tensor) -> Tensor:
        if not self.keep:
            self.hidden = None
        out, (h, c) = self.lstm(x, self.hidden)
        self.hidden = (h.detach(), c.detach())
        return self.head(out[:, -1])


def visits(count: int, steps: int) -> tuple[Tensor, Tensor]:
    """One of four pages at each step; the target is the number of visits to the first."""
    x = nn.functional.one_hot(torch.randint(4, (count, steps)), 4).float()
    return x, x[..., :1].sum(1) / 3 - 2


def make(faulty: bool) -> Case:
    batches = [visits(24, int(steps)) for steps in torch.randint(6, 40, (60,))]
    train, test = batches[:40], batches[40:]
    return Case(
        VisitCounter(keep=faulty),
        train,
        squared_error,
        lambda model: fit(model, train, squared_error, epochs=18),
        lambda model: explained(model, test),
        chance=0.0,
        good=0.8,
        accept={"right": {"state leak"}, "partly": {"samples mixed"}} if faulty else {"healthy"},
    )
