"""Training goes in chunks of six steps with detached states; the dependency is longer.

Source: GitHub dpressel/dliss-tutorial#1, "Detach the hidden states", and OpenNMT/OpenNMT-py#1148,
"Query regarding detach behavior in truncated bptt".
"""

import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.doctor.field_case import Case, accuracy, batched, cross_entropy


class SequenceModel(nn.Module):
    """An LSTM that takes a state and keeps the new one for the caller."""

    def __init__(self, input_size=3, hidden_size=24, n_classes=2):
        super().__init__()
        self.lstm = nn.LSTM(input_size, hidden_size, batch_first=True)
        self.linear = nn.Linear(hidden_size, n_classes)
        bias = dict(self.lstm.named_parameters())["bias_ih_l0"]
        nn.init.constant_(bias[hidden_size : 2 * hidden_size], 2.0)

    def step(self, x, states=None):
        out, states = self.lstm(x, states)
        return self.linear(out[:, -1]), states

    def forward(self, x):
        return self.step(x)[0]


def readings(count, steps=24):
    """Return readings, one of them flagged; the class is the sign of the flagged one."""
    x = torch.zeros(count, steps, 3)
    x[..., 0] = torch.randn(count, steps).sign()
    x[..., 2] = 0.5 * torch.randn(count, steps)
    rows, at = torch.arange(count), torch.randint(10, (count,))
    x[rows, at, 1] = 1.0
    return x, (x[rows, at, 0] > 0).long()


def make(faulty: bool) -> Case:
    """Return the program; the faulty one truncates after six steps, the other not at all."""
    batches, held_out = batched(*readings(40 * 32)), batched(*readings(512))
    seq_length = 6 if faulty else 24

    def detach(states):
        return states if states is None else tuple(state.detach() for state in states)

    def training_step(model, optimizer, batch):
        x, y = batch
        outputs, states = x.new_zeros(len(x), 2), None
        for inputs in x.split(seq_length, dim=1):
            outputs, states = model.step(inputs, detach(states))
        loss = F.cross_entropy(outputs, y)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()

    def optimizer_of(model):
        return torch.optim.Adam(model.parameters(), lr=0.01)

    def fit(model):
        optimizer = optimizer_of(model)
        for _ in range(20):
            for batch in batches:
                training_step(model, optimizer, batch)

    return Case(
        SequenceModel(),
        batches,
        cross_entropy,
        fit,
        lambda model: accuracy(model, held_out),
        chance=0.5,
        good=0.9,
        accept={"right": {"gradient cut"}, "partly": set()} if faulty else {"healthy"},
        options=lambda model: {
            "training_step": training_step,
            "optimizer": optimizer_of(model),
        },
    )
