"""A ReLU RNN with recurrent weights of standard deviation 0.5: its loss is astronomical.

Source: GitHub bricewalker/Hey-Jetson#7, "Stops training with this error", and
horenbergerb/BernoulliDiffusion#15, "nan loss for large sequence_length".
"""

import copy

import torch
from torch import nn

from benchmarks.doctor.field_case import Case, batched, explained, squared_error


class ReLURNN(nn.Module):
    """A ReLU RNN with random or identity recurrent weights."""

    def __init__(self, std, hidden=24):
        super().__init__()
        self.rnn = nn.RNN(2, hidden, nonlinearity="relu", batch_first=True)
        for name, param in self.rnn.named_parameters():
            if name.startswith("bias"):
                nn.init.zeros_(param)
            elif name.startswith("weight_hh"):
                nn.init.eye_(param) if std is None else nn.init.normal_(param, std=std)
        self.linear = nn.Linear(hidden, 1)

    def forward(self, x):
        output, _ = self.rnn(x)
        return self.linear(output[:, -1])


def counters(count, steps=60):
    """Return amounts and a flag; the target is the sum of the flagged amounts."""
    amount = torch.randn(count, steps)
    flag = (torch.rand(count, steps) < 0.1).float()
    total = (amount * flag).sum(1, keepdim=True) / 6**0.5
    return torch.stack([amount, flag], 2), total


def make(faulty: bool) -> Case:
    """Return the program; the state of the faulty one grows at each step, and it does not clip."""
    batches, held_out = batched(*counters(48 * 32)), batched(*counters(512))

    def fit(model):
        optimizer = torch.optim.Adam(model.parameters(), lr=0.002)
        finite = copy.deepcopy(model.state_dict())
        for _ in range(12):
            for batch in batches:
                optimizer.zero_grad()
                loss = squared_error(model, batch)
                if not torch.isfinite(loss):
                    model.load_state_dict(finite)
                    return
                finite = copy.deepcopy(model.state_dict())
                loss.backward()
                if not faulty:
                    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()

    return Case(
        ReLURNN(std=0.5 if faulty else None),
        batches,
        squared_error,
        fit,
        lambda model: explained(model, held_out),
        chance=0.0,
        good=0.6,
        accept={"right": {"exploding gradient"}, "partly": set()} if faulty else {"healthy"},
    )
