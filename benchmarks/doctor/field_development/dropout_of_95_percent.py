"""Dropout of 0.95 on the input, between the layers and before the head.

Source: Rebuilt, no single thread: dropout taken for the share that is kept.
"""

from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, classifier, cued


class Classifier(nn.Module):
    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.drop = nn.Dropout(dropout)
        self.lstm = nn.LSTM(4, 32, num_layers=2, batch_first=True, dropout=dropout)
        self.fc = nn.Linear(32, 2)

    def forward(self, x: Tensor) -> Tensor:
        out, _ = self.lstm(self.drop(x))
        return self.fc(self.drop(out[:, -1]))


def make(faulty: bool) -> Case:
    train, test = (batched(*cued(count, 20, noise=1)) for count in (1024, 512))
    dropout = {"right": {"dropout"}, "partly": set[str]()}
    return classifier(
        Classifier(0.95 if faulty else 0.1), train, test, dropout if faulty else {"healthy"}, 15
    )
