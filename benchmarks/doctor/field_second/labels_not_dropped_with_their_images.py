"""Pale images are dropped from the inputs, but their labels stay, so that all later ones shift.

Source: kind: discuss.pytorch.org threads on "loss stuck at 2.3" after cleaning a data set.
Data: handwritten digits, half a column of pixels a step, in both directions.
"""

from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, classifier, digits


class PooledReader(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(4, 24, batch_first=True, bidirectional=True)
        self.out = nn.Linear(48, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.rnn(x)[0].mean(1))


def make(faulty: bool) -> Case:
    images, labels = digits()
    columns = images.transpose(1, 2).reshape(-1, 16, 4)
    clear = images.mean((1, 2)) > 0.26
    test = batched(columns[1500:], labels[1500:])
    columns = columns[:1500][clear[:1500]]
    labels = labels[:1500] if faulty else labels[:1500][clear[:1500]]
    return classifier(
        PooledReader(),
        batched(columns, labels[: len(columns)]),
        test,
        {"right": {"target meets other answers", "no dependence found"}, "partly": set()}
        if faulty
        else {"healthy", "no long dependency"},
        epochs=14,
        classes=10,
    )
