"""Sensor counts around 3000 go into the LSTM as they are.

Source: machinelearningmastery.com, "How to Scale Data for Long Short-Term Memory Networks".
"""

from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, classifier, cued


class Classifier(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(4, 32, batch_first=True)
        self.fc = nn.Linear(32, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.lstm(x)[0][:, -1])


def make(faulty: bool) -> Case:
    def counts(count: int) -> list[tuple[Tensor, Tensor]]:
        x, y = cued(count, 20)
        return batched(400 * x + 3000 if faulty else x, y)

    unscaled = {"right": {"inputs not scaled"}, "partly": {"saturated"}}
    return classifier(Classifier(), counts(1024), counts(512), unscaled if faulty else {"healthy"})
