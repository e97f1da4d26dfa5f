"""out[-1] of a batch_first GRU where the batch has as many samples as steps: no error.

Source: Rebuilt, no single thread: out[-1] kept after batch_first=True was set.
"""

from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, classifier, cued


class Classifier(nn.Module):
    def __init__(self, last_sample: bool) -> None:
        super().__init__()
        self.last_sample = last_sample
        self.gru = nn.GRU(4, 32, batch_first=True)
        self.fc = nn.Linear(32, 2)

    def forward(self, x: Tensor) -> Tensor:
        out, _ = self.gru(x)
        return self.fc(out[-1] if self.last_sample else out[:, -1])


def make(faulty: bool) -> Case:
    train, test = (batched(*cued(count, 16, noise=0.4), size=16) for count in (1024, 256))
    train = train[:48]
    wrong = {"right": {"answer at the wrong step"}, "partly": {"samples mixed"}}
    return classifier(Classifier(faulty), train, test, wrong if faulty else {"healthy"}, 20)
