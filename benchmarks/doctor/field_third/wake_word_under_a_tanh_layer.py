"""`nn.RNN` shall report at the end of a recording which wake word stood at its start.

Source: stackoverflow thread behind openillumi.com "PyTorch time series: RNN limit", a plain RNN on
long recordings whose loss stands still. The twin has an LSTM with an open forget gate in its place.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, classifier


class WakeWord(nn.Module):
    def __init__(self, plain: bool) -> None:
        super().__init__()
        self.frames = nn.Linear(5, 10)
        if plain:
            self.rnn: nn.RNNBase = nn.RNN(10, 24, batch_first=True)
        else:
            self.rnn = nn.LSTM(10, 24, batch_first=True)
            nn.init.constant_(self.rnn.bias_ih_l0[24:48], 4.0)
        self.fc = nn.Linear(24, 2)

    def forward(self, x: Tensor) -> Tensor:
        out, _ = self.rnn(self.frames(x))
        return self.fc(out[:, -1])


def recordings(count: int, frames: int) -> tuple[Tensor, Tensor]:
    y = torch.randint(2, (count,))
    x = torch.randn(count, frames, 5)
    x[:, :4, 0] += 2.0 * (2 * y[:, None] - 1)
    x[:, :4, 4] += 2.0
    return x, y


def make(faulty: bool) -> Case:
    batches = batched(*recordings(32 * 46, 110))
    return classifier(
        WakeWord(plain=faulty),
        batches[:38],
        batches[38:],
        accept={"right": {"vanishing gradient"}, "partly": {"forgetting"}}
        if faulty
        else {"healthy"},
        epochs=9,
    )
