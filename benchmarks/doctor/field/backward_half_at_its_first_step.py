"""A bidirectional layer is read at `out[:, -1]`: its backward half has read one step there.

Source: discuss.pytorch.org 49825, "BiLSTM: output & hidden state mismatch". The cue stands at the
start, so that the backward half would have it fresh, and the forward half forgets it.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, accuracy, batched, cross_entropy, fit


class BiClassifier(nn.Module):
    def __init__(self, last_output: bool) -> None:
        super().__init__()
        self.rnn = nn.GRU(3, 16, batch_first=True, bidirectional=True)
        self.fc = nn.Linear(32, 4)
        self.last_output = last_output

    def forward(self, x: Tensor) -> Tensor:
        out, h_n = self.rnn(x)
        if self.last_output:
            return self.fc(out[:, -1])
        return self.fc(torch.cat((h_n[0], h_n[1]), 1))


def signals(count: int, steps: int) -> tuple[Tensor, Tensor]:
    y = torch.randint(4, (count,))
    x = torch.randn(count, steps, 3)
    corner = torch.stack((y % 2, y // 2), 1).float() * 2 - 1
    x[:, :4, :2] += 1.5 * corner[:, None]
    return x, y


def make(faulty: bool) -> Case:
    batches = batched(*signals(32 * 36, 90))
    train, test = batches[:28], batches[28:]
    return Case(
        BiClassifier(last_output=faulty),
        train,
        cross_entropy,
        lambda model: fit(model, train, cross_entropy, epochs=6, lr=0.005),
        lambda model: accuracy(model, test),
        chance=0.25,
        good=0.9,
        accept={
            "right": {"answer at the wrong step"},
            "partly": {"vanishing gradient", "forgetting"},
        }
        if faulty
        else {"healthy", "no long dependency"},
    )
