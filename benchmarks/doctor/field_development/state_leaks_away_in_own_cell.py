"""A leaky cell of one's own keeps 3 % of its state each step; the cue is 39 steps back.

Source: kind: threads on leaky-integrator networks (CTRNN) whose alpha is the time step.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, classifier, cued


class LeakyCell(nn.Module):
    def __init__(self, inputs: int, hidden: int, alpha: float) -> None:
        super().__init__()
        self.hidden_size = hidden
        self.inner = nn.Linear(inputs, hidden)
        self.outer = nn.Linear(hidden, hidden)
        nn.init.orthogonal_(self.outer.weight, gain=0.1)
        self.alpha = alpha

    def forward(self, x: Tensor, state: Tensor) -> Tensor:
        new = torch.tanh(self.inner(x) + self.outer(state))
        return (1 - self.alpha) * state + self.alpha * new


class LeakyNet(nn.Module):
    def __init__(self, alpha: float) -> None:
        super().__init__()
        self.cell = LeakyCell(4, 48, alpha)
        self.out = nn.Linear(48, 2)

    def forward(self, x: Tensor) -> Tensor:
        state = x.new_zeros(len(x), 48)
        for step in x.unbind(1):
            state = self.cell(step, state)
        return self.out(state)


def make(faulty: bool) -> Case:
    return classifier(
        LeakyNet(0.97 if faulty else 0.05),
        batched(*cued(960, 40)),
        batched(*cued(320, 40)),
        {"right": {"forgetting", "vanishing gradient"}, "partly": set()} if faulty else {"healthy"},
        epochs=15,
        lr=0.003,
    )
