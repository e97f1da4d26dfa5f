"""A loop over time calls the LSTM on one step at a time and does not pass its state on.

Source: Rebuilt, no single thread: loops of recurrent DQN and of video code.
"""

from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, classifier, cued


class SteppedLSTM(nn.Module):
    def __init__(self, passed: bool) -> None:
        super().__init__()
        self.passed = passed
        self.lstm = nn.LSTM(4, 32, batch_first=True)
        self.fc = nn.Linear(32, 2)

    def forward(self, x: Tensor) -> Tensor:
        out, state = x, None
        for t in range(x.shape[1]):
            out, new = self.lstm(x[:, t : t + 1], state)
            if self.passed:
                state = new
        return self.fc(out[:, -1])


def make(faulty: bool) -> Case:
    train, test = batched(*cued(1024, 12)), batched(*cued(512, 12))
    dropped = {"right": {"forgetting"}, "partly": {"one-step sequences"}}
    return classifier(SteppedLSTM(not faulty), train, test, dropped if faulty else {"healthy"}, 8)
