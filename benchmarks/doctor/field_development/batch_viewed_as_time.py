"""x.view(time, batch, features) where x.transpose(0, 1) was meant: the samples are cut up.

Source: nlp_basic_model issue 1.
"""

from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, classifier, cued


class Classifier(nn.Module):
    def __init__(self, viewed: bool) -> None:
        super().__init__()
        self.viewed = viewed
        self.lstm = nn.LSTM(4, 32)
        self.fc = nn.Linear(32, 2)

    def forward(self, x: Tensor) -> Tensor:
        batch, time, features = x.shape
        x = x.view(time, batch, features) if self.viewed else x.transpose(0, 1)
        out, _ = self.lstm(x)
        return self.fc(out[-1])


def make(faulty: bool) -> Case:
    train, test = batched(*cued(1024, 20)), batched(*cued(512, 20))
    mixed = {"right": {"samples mixed"}, "partly": set[str]()}
    return classifier(Classifier(faulty), train, test, mixed if faulty else {"healthy"})
