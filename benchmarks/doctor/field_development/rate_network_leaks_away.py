"""A rate network has a time constant of two steps, and a cue forty steps before the answer.

Kind: leaky units of computational neuroscience, dt / tau too large.
"""

import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.doctor.field_case import Case, batched, classifier, cued


class RateNetwork(nn.Module):
    def __init__(self, tau: float, hidden: int = 24) -> None:
        super().__init__()
        self.alpha, self.hidden = 1.0 / tau, hidden
        self.inputs = nn.Linear(4, hidden)
        self.recurrent = nn.Linear(hidden, hidden, bias=False)
        nn.init.normal_(self.recurrent.weight, std=0.02)
        self.readout = nn.Linear(hidden, 2)

    def forward(self, x):
        rate = torch.zeros(x.size(0), self.hidden)
        outputs = []
        for stimulus in x.unbind(1):
            drive = F.relu(self.inputs(stimulus) + self.recurrent(rate))
            rate = (1 - self.alpha) * rate + self.alpha * drive
            outputs.append(self.readout(rate))
        return torch.stack(outputs, 1)[:, -1]


def make(faulty: bool) -> Case:
    train, test = batched(*cued(32 * 32, 40, noise=0.2)), batched(*cued(512, 40, noise=0.2))
    return classifier(
        RateNetwork(2.0 if faulty else 30.0),
        train,
        test,
        {"right": {"vanishing gradient", "forgetting"}, "partly": set()} if faulty else {"healthy"},
        epochs=12,
    )
