"""Targets that have nothing to do with the inputs, over 120 steps, and a network before training.

The healthy program is trained, and its target is the sign of the first input.

Source: Rebuilt, no single thread: classifiers of market moves that stay at 50 %.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, classifier


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(3, 32, batch_first=True)
        self.out = nn.Linear(32, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.rnn(x)[0][:, -1])


def make(faulty: bool) -> Case:
    def moves(count: int, steps: int) -> list[tuple[Tensor, Tensor]]:
        x = torch.randn(count, steps, 3)
        return batched(x, torch.randint(2, (count,)) if faulty else (x[:, 0, 0] > 0).long())

    steps = 120 if faulty else 12
    nothing = {"right": {"no dependence found"}, "partly": set[str]()}
    return classifier(
        Net(),
        moves(768 if faulty else 1536, steps),
        moves(512, steps),
        nothing if faulty else {"healthy"},
        epochs=0 if faulty else 10,
    )
