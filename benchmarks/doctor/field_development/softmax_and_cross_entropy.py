"""softmax as the last layer under CrossEntropyLoss: 48 classes, the loss hardly falls.

Source: Stack Overflow, "Binary Classification RNN Model not Learning".
"""

from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, classifier, cued


class Classifier(nn.Module):
    def __init__(self, softmax: bool) -> None:
        super().__init__()
        self.softmax = softmax
        self.lstm = nn.LSTM(48, 32, batch_first=True)
        self.fc = nn.Linear(32, 48)

    def forward(self, x: Tensor) -> Tensor:
        out, _ = self.lstm(x)
        logits = self.fc(out[:, -1])
        return logits.softmax(dim=-1) if self.softmax else logits


def make(faulty: bool) -> Case:
    train, test = (batched(*cued(count, 8, 48, noise=0.3)) for count in (1024, 512))
    unfit = {"right": {"answers do not fit the loss"}, "partly": set[str]()}
    return classifier(
        Classifier(faulty),
        train,
        test,
        unfit if faulty else {"healthy"},
        epochs=8,
        classes=48,
        good=0.95,
    )
