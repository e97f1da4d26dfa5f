"""requires_grad=False, left over from transfer learning, freezes a recurrent layer that is new.

Source: Rebuilt, no single thread: requires_grad of fine-tuning code that was copied.
"""

from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, classifier, cued


class Classifier(nn.Module):
    def __init__(self, frozen: bool) -> None:
        super().__init__()
        self.rnn = nn.GRU(4, 16, batch_first=True)
        self.fc = nn.Linear(16, 4)
        for parameter in self.rnn.parameters():
            parameter.requires_grad_(not frozen)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.rnn(x)[0][:, -1])


def make(faulty: bool) -> Case:
    train, test = (batched(*cued(count, 15, 4)) for count in (1024, 512))
    frozen = {"right": {"not trained"}, "partly": set[str]()}
    return classifier(
        Classifier(faulty), train, test, frozen if faulty else {"healthy"}, 15, classes=4
    )
