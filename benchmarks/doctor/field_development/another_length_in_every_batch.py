"""Bucketed batches: another length in every batch. The faulty program reads out[:, 0].

Source: Rebuilt, no single thread: batches of BucketIterator.
"""

from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, classifier, cued


class Classifier(nn.Module):
    def __init__(self, step: int) -> None:
        super().__init__()
        self.step = step
        self.rnn = nn.GRU(4, 32, batch_first=True)
        self.fc = nn.Linear(32, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.rnn(x)[0][:, self.step])


def buckets(count: int) -> list[tuple[Tensor, Tensor]]:
    """Batches of 8 to 16 steps; the class is shown at step 3."""
    return [cued(32, 8 + (7 * k) % 9, at=3) for k in range(count)]


def make(faulty: bool) -> Case:
    wrong = {"right": {"answer at the wrong step"}, "partly": set[str]()}
    return classifier(
        Classifier(0 if faulty else -1), buckets(40), buckets(16), wrong if faulty else {"healthy"}
    )
