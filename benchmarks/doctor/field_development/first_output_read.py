"""out[:, 0] is read in place of out[:, -1]; the class is shown at step 5.

Source: Rebuilt, no single thread: the output of the wrong step goes to the classifier.
"""

from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, classifier, cued


class Classifier(nn.Module):
    def __init__(self, step: int) -> None:
        super().__init__()
        self.step = step
        self.lstm = nn.LSTM(4, 32, batch_first=True)
        self.fc = nn.Linear(32, 2)

    def forward(self, x: Tensor) -> Tensor:
        out, _ = self.lstm(x)
        return self.fc(out[:, self.step])


def make(faulty: bool) -> Case:
    train, test = (batched(*cued(count, 20, at=5)) for count in (1024, 512))
    wrong = {"right": {"answer at the wrong step"}, "partly": set[str]()}
    return classifier(
        Classifier(0 if faulty else -1), train, test, wrong if faulty else {"healthy"}
    )
