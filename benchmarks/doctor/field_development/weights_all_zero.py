"""A loop over all parameters sets them to zero: the units are alike, and the state stays 0.

Source: Rebuilt, no single thread: nn.init.constant_ over model.parameters().
"""

from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, classifier, cued


class Classifier(nn.Module):
    def __init__(self, zeros: bool) -> None:
        super().__init__()
        self.lstm = nn.LSTM(4, 32, batch_first=True)
        self.fc = nn.Linear(32, 4)
        if zeros:
            for parameter in self.parameters():
                nn.init.constant_(parameter, 0)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.lstm(x)[0][:, -1])


def make(faulty: bool) -> Case:
    train, test = (batched(*cued(count, 10, 4)) for count in (1024, 512))
    zeros = {"right": {"dead units", "not trained"}, "partly": {"vanishing gradient"}}
    return classifier(
        Classifier(faulty), train, test, zeros if faulty else {"healthy"}, 20, classes=4
    )
