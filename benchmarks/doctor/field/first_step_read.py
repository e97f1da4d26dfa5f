"""A time-first layer is read at `output[0]`, which is its first step.

Source: discuss.pytorch.org 79498 and 49825 on which index of the output is the last step.
Data: handwritten digits, two columns of pixels a step from the left.
"""

from torch import Tensor, nn

from benchmarks.doctor.field_case import (
    Case,
    accuracy,
    batched,
    cross_entropy,
    digits,
    fit,
)


class ColumnReader(nn.Module):
    def __init__(self, index: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(16)
        self.rnn = nn.GRU(16, 32, num_layers=2)
        self.out = nn.Linear(32, 10)
        self.index = index

    def forward(self, x: Tensor) -> Tensor:
        output, _ = self.rnn(self.norm(x))
        return self.out(output[self.index])


def make(faulty: bool) -> Case:
    images, classes = digits()
    columns = images.transpose(1, 2).reshape(-1, 4, 16)
    batches = [(x.transpose(0, 1).contiguous(), y) for x, y in batched(columns, classes, size=32)]
    train, test = batches[:44], batches[44:]
    return Case(
        ColumnReader(0 if faulty else -1),
        train,
        cross_entropy,
        lambda model: fit(model, train, cross_entropy, epochs=8),
        lambda model: accuracy(model, test),
        chance=0.1,
        good=0.92,
        accept={
            "right": {"answer at the wrong step"},
            "partly": set(),
        }
        if faulty
        else {"healthy", "no long dependency"},
    )
