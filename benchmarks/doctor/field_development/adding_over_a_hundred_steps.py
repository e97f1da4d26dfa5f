"""The adding problem with a tanh network over 100 steps; the healthy program has 12 steps.

Source: Hochreiter and Schmidhuber's problem, as newcomers set it for nn.RNN.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, forecaster


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.RNN(2, 48, batch_first=True)
        self.out = nn.Linear(48, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.rnn(x)[0][:, -1])


def additions(count: int, steps: int) -> list[tuple[Tensor, Tensor]]:
    """Numbers with two marks, one in each half, and the sum of the marked numbers."""
    values, marks = torch.rand(count, steps, 1), torch.zeros(count, steps, 1)
    rows = torch.arange(count)
    marks[rows, torch.randint(steps // 2, (count,))] = 1
    marks[rows, torch.randint(steps // 2, steps, (count,))] = 1
    return batched(torch.cat([values, marks], dim=-1), (values * marks).sum(dim=1))


def make(faulty: bool) -> Case:
    steps = 100 if faulty else 12
    vanishing = {"right": {"vanishing gradient"}, "partly": {"forgetting"}}
    return forecaster(
        Net(),
        additions(1024, steps),
        additions(512, steps),
        vanishing if faulty else {"healthy"},
        epochs=10 if faulty else 40,
        lr=0.003,
        good=0.8,
    )
