"""`out[-1]` of a layer with `batch_first` is the last sample, and batch and time have one size.

Source: yunjey/pytorch-tutorial, issue 151, and HHTseng/video-classification, issue 3, where readers
ask for exactly this change. Data: handwritten digits, eight rows and eight images a batch.
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


class RNN(nn.Module):
    def __init__(self, input_size: int, hidden_size: int, num_classes: int, last: bool) -> None:
        super().__init__()
        self.lstm = nn.LSTM(input_size, hidden_size, batch_first=True)
        self.fc = nn.Linear(hidden_size, num_classes)
        self.last = last

    def forward(self, x: Tensor) -> Tensor:
        out, _ = self.lstm(x)
        return self.fc(out[-1] if self.last else out[:, -1, :])


def make(faulty: bool) -> Case:
    batches = batched(*digits(), size=8)
    train, test = batches[:48], batches[48:148]
    return Case(
        RNN(8, 32, 10, last=faulty),
        train,
        cross_entropy,
        lambda model: fit(model, train, cross_entropy, epochs=22),
        lambda model: accuracy(model, test),
        chance=0.1,
        good=0.75,
        accept={
            "right": {"answer at the wrong step", "samples mixed"},
            "partly": {"target meets other answers"},
        }
        if faulty
        else {"healthy", "no long dependency"},
    )
