"""A plain tanh RNN has to remember the first step for 80 steps.

Source: harshithvarma.in, "Vanishing Gradient Problem", and datarekha.com, "Why do vanilla RNNs
struggle with long sequences?".
"""

import torch
from torch import nn

from benchmarks.doctor.field_case import Case, accuracy, batched, cross_entropy, fit


class SensorClassifier(nn.Module):
    """Linear layer, recurrent layer, last output, linear layer."""

    def __init__(self, rnn_type, n_channels=5, hidden_dim=20, num_class=2):
        super().__init__()
        self.inp = nn.Linear(n_channels, 12)
        if rnn_type == "RNN":
            self.rnn = nn.RNN(12, hidden_dim, batch_first=True)
        else:
            self.rnn = nn.LSTM(12, hidden_dim, batch_first=True)
            bias = dict(self.rnn.named_parameters())["bias_ih_l0"]
            nn.init.constant_(bias[hidden_dim : 2 * hidden_dim], 5.0)
        self.fc = nn.Linear(hidden_dim, num_class)

    def forward(self, signal):
        output, _ = self.rnn(self.inp(signal))
        return self.fc(output[:, -1])


def signals(count, steps=80):
    """Return noise; the class is the sign of a pulse at the first step."""
    x = torch.randn(count, steps, 5)
    kind = torch.randint(2, (count,))
    x[:, 0, 0] = 3.0 * (2 * kind - 1)
    x[:, 1:, 1] = 0
    x[:, 0, 1] = 3.0
    return x, kind


def make(faulty: bool) -> Case:
    """Return the program: an RNN, or an LSTM that starts with open forget gates."""
    batches, held_out = batched(*signals(40 * 32)), batched(*signals(512))
    return Case(
        SensorClassifier("RNN" if faulty else "LSTM"),
        batches,
        cross_entropy,
        lambda model: fit(model, batches, cross_entropy, epochs=12, lr=0.005),
        lambda model: accuracy(model, held_out),
        chance=0.5,
        good=0.9,
        accept={"right": {"vanishing gradient"}, "partly": {"forgetting"}}
        if faulty
        else {"healthy"},
    )
