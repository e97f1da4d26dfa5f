"""The rows of an image go to a time-first layer by `view`, where a transpose is needed.

Source: HHTseng/video-classification, issue 42, where a reader proposes exactly this `view`.
Data: handwritten digits, a row a step.
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


class RowReader(nn.Module):
    def __init__(self, view: bool) -> None:
        super().__init__()
        self.rnn = nn.LSTM(input_size=8, hidden_size=32)
        self.linear = nn.Linear(32, 10)
        self.view = view

    def forward(self, images: Tensor) -> Tensor:
        batch, rows, columns = images.shape
        steps = images.view(rows, batch, columns) if self.view else images.transpose(0, 1)
        out, _ = self.rnn(steps)
        return self.linear(out[-1])


def make(faulty: bool) -> Case:
    batches = batched(*digits(), size=32)
    train, test = batches[:44], batches[44:]
    return Case(
        RowReader(view=faulty),
        train,
        cross_entropy,
        lambda model: fit(model, train, cross_entropy, epochs=15),
        lambda model: accuracy(model, test),
        chance=0.1,
        good=0.9,
        accept={"right": {"samples mixed"}, "partly": {"time and batch swapped"}}
        if faulty
        else {"healthy", "no long dependency"},
    )
