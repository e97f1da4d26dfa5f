"""The sequence runs in chunks of five steps, and the state is detached between them.

Source: yunjey/pytorch-tutorial issue 90; repackage_hidden of PyTorch's language model example.
"""

from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, classifier, cued


class ChunkedLSTM(nn.Module):
    def __init__(self, detach: bool) -> None:
        super().__init__()
        self.detach = detach
        self.lstm = nn.LSTM(4, 32, batch_first=True)
        self.fc = nn.Linear(32, 2)

    def forward(self, x: Tensor) -> Tensor:
        out, state = x, None
        for chunk in x.split(5, dim=1):
            if self.detach and state is not None:
                state = (state[0].detach(), state[1].detach())
            out, state = self.lstm(chunk, state)
        return self.fc(out[:, -1])


def make(faulty: bool) -> Case:
    train, test = (batched(*cued(count, 20)) for count in (1024, 512))
    cut = {"right": {"gradient cut"}, "partly": set[str]()}
    return classifier(ChunkedLSTM(faulty), train, test, cut if faulty else {"healthy"}, epochs=15)
