"""batch_first forgotten: (batch, time, features) goes into an LSTM that steps through the batch.

Source: discuss.pytorch.org/t/62364; pytorch issue 1538; fairseq issue 2449.
"""

from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, classifier, cued


class Classifier(nn.Module):
    def __init__(self, batch_first: bool) -> None:
        super().__init__()
        self.lstm = nn.LSTM(4, 32, batch_first=batch_first)
        self.fc = nn.Linear(32, 2)

    def forward(self, x: Tensor) -> Tensor:
        out, _ = self.lstm(x)
        return self.fc(out[:, -1])


def make(faulty: bool) -> Case:
    train, test = batched(*cued(1024, 20)), batched(*cued(512, 20))
    swapped = {"right": {"time and batch swapped"}, "partly": {"samples mixed", "state leak"}}
    return classifier(Classifier(not faulty), train, test, swapped if faulty else {"healthy"})
