"""The GRU's output is detached before the head: only the head is trained.

Source: Rebuilt, no single thread: .data or .detach() of hidden states, copied from a tutorial.
"""

from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, classifier, cued


class Classifier(nn.Module):
    def __init__(self, detached: bool) -> None:
        super().__init__()
        self.detached = detached
        self.rnn = nn.GRU(4, 16, batch_first=True)
        self.fc = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        out = self.rnn(x)[0][:, -1]
        return self.fc(out.detach() if self.detached else out)


def make(faulty: bool) -> Case:
    train, test = (batched(*cued(count, 15, 4)) for count in (1024, 512))
    cut = {"right": {"gradient cut", "not trained"}, "partly": set[str]()}
    return classifier(
        Classifier(faulty), train, test, cut if faulty else {"healthy"}, 15, classes=4
    )
