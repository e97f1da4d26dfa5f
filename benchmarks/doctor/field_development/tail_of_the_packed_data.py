"""The last rows of packed.data are taken for the last steps of the sequences.

Source: kind: discuss.pytorch.org, the last hidden state of a packed sequence.
"""

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from benchmarks.doctor.field_case import Case, batched, forecaster


class Counter(nn.Module):
    def __init__(self, tail: bool) -> None:
        super().__init__()
        self.gru = nn.GRU(2, 24, batch_first=True)
        self.head = nn.Linear(24, 1)
        self.tail = tail

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        output, state = self.gru(packed)
        last = output.data[-len(x) :] if self.tail else state[-1]
        return self.head(last).squeeze(1)


def series(count: int) -> list[tuple[Tensor, ...]]:
    """The target is the sum of the values at two flagged steps."""
    x = torch.stack([torch.randn(count, 18), torch.zeros(count, 18)], -1)
    rows, lengths = torch.arange(count), torch.randint(9, 19, (count,))
    first, second = torch.randint(0, 4, (count,)), torch.randint(4, 8, (count,))
    x[rows, first, 1] = x[rows, second, 1] = 1
    target = x[rows, first, 0] + x[rows, second, 0]
    x[torch.arange(18) >= lengths[:, None]] = 0
    return batched(x, lengths, target, size=32)


def make(faulty: bool) -> Case:
    return forecaster(
        Counter(faulty),
        series(1280),
        series(256),
        {
            "right": {"samples mixed", "answer at the wrong step"},
            "partly": {"target meets other answers", "padding read"},
        }
        if faulty
        else {"healthy"},
        epochs=20,
        good=0.8,
    )
