"""(batch, features, time) goes into an LSTM with input_size=time: features are taken for steps.

Twelve sensors and twelve steps, so that no error is raised; the order of two events decides.

Source: Rebuilt, no single thread: spectrograms and data frames in LSTM(input_size=seq_len).
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, classifier


class Classifier(nn.Module):
    def __init__(self, transpose: bool) -> None:
        super().__init__()
        self.transpose = transpose
        self.rnn = nn.GRU(12, 24, batch_first=True)
        self.fc = nn.Linear(24, 2)

    def forward(self, x: Tensor) -> Tensor:
        if self.transpose:
            x = x.transpose(1, 2)
        return self.fc(self.rnn(x)[0][:, -1])


def events(count: int) -> list[tuple[Tensor, Tensor]]:
    """Sensors with an event in each of the first two; the class is the one with the first event."""
    x, y, rows = torch.randn(count, 12, 12), torch.randint(2, (count,)), torch.arange(count)
    early = torch.randint(5, (count,))
    late = early + torch.randint(1, 7, (count,))
    x[rows, y, early] += 4
    x[rows, 1 - y, late] += 4
    return batched(x, y)


def make(faulty: bool) -> Case:
    axes = {"right": {"time and batch swapped"}, "partly": set[str]()}
    return classifier(
        Classifier(not faulty), events(1024), events(512), axes if faulty else {"healthy"}
    )
