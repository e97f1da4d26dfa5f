"""The adding problem over 60 steps, with a tanh RNN.

Source: discuss.pytorch.org 21588, "Reproducing classical LSTM results".
"""

import torch
from torch import nn

from benchmarks.doctor.field_case import Case, batched, explained, fit, squared_error


class MyRNN(nn.Module):
    """A recurrent layer and a linear layer on the last output."""

    def __init__(self, gated, hidden=16):
        super().__init__()
        layer = nn.LSTM if gated else nn.RNN
        self.rnn = layer(input_size=2, hidden_size=hidden, batch_first=True)
        if gated:  # forget gates that keep at first
            bias = dict(self.rnn.named_parameters())["bias_ih_l0"]
            nn.init.constant_(bias[hidden : 2 * hidden], 5.0)
        self.fc = nn.Linear(hidden, 1)

    def forward(self, x):
        x = self.rnn(x)[0][:, -1, :]
        return self.fc(x)


def gen_sequences(count, steps=60):
    """Return values and two marks, both in the first half, and the scaled sum of the marked."""
    x = torch.zeros(count, steps, 2)
    x[..., 0].uniform_(-1.0, 1.0)
    rows = torch.arange(count)
    first, second = torch.randint(0, 10, (count,)), torch.randint(10, steps // 2, (count,))
    x[rows, first, 1] = x[rows, second, 1] = 1.0
    return x, (0.5 + (x[rows, first, 0] + x[rows, second, 0]) / 4.0).unsqueeze(1)


def make(faulty: bool) -> Case:
    """Return the program: a tanh RNN, or an LSTM whose forget gates keep at first."""
    batches, held_out = batched(*gen_sequences(48 * 64), size=64), batched(*gen_sequences(512))
    return Case(
        MyRNN(gated=not faulty),
        batches,
        squared_error,
        lambda model: fit(model, batches, squared_error, epochs=22, lr=0.03),
        lambda model: explained(model, held_out),
        chance=0.0,
        good=0.8,
        accept={"right": {"vanishing gradient"}, "partly": {"forgetting"}}
        if faulty
        else {"healthy"},
    )
