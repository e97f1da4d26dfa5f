"""The images come in the order of `sorted(names)`, 10 before 2, and the labels in that of numbers.

Source: kind: forum threads on data sets read with `glob` and `sorted` beside a table of labels.
Data: handwritten digits, four pixels a step.
"""

from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, classifier, digits


class StrokeReader(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(4, 24, batch_first=True, bidirectional=True)
        self.fc = nn.Linear(48, 10)

    def forward(self, x: Tensor) -> Tensor:
        out, _ = self.gru(x)
        return self.fc(out.mean(1))


def make(faulty: bool) -> Case:
    images, classes = digits()
    x = images.transpose(1, 2).reshape(-1, 16, 4)
    names = sorted(range(32 * 44), key=str if faulty else int)
    train = batched(x[names], classes[: 32 * 44])
    return classifier(
        StrokeReader(),
        train,
        batched(x[32 * 44 :], classes[32 * 44 :]),
        accept={"right": {"no dependence found", "target meets other answers"}, "partly": set()}
        if faulty
        else {"healthy", "no long dependency"},
        epochs=10,
        classes=10,
        good=0.85,
    )
