"""nn.RNN learns sequences of 8 steps and fails on 80: the gradient vanishes on the way back.

The healthy program has the short sequences.

Source: Rebuilt, no single thread: an RNN that works on short sequences only.
"""

from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, classifier, cued


class Classifier(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.RNN(4, 32, batch_first=True)
        self.fc = nn.Linear(32, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.rnn(x)[0][:, -1])


def make(faulty: bool) -> Case:
    steps = 80 if faulty else 8
    train, test = (batched(*cued(count, steps, noise=1)) for count in (1024, 512))
    vanishing = {"right": {"vanishing gradient"}, "partly": {"forgetting"}}
    return classifier(
        Classifier(), train, test, vanishing if faulty else {"healthy"}, epochs=15, lr=0.003
    )
