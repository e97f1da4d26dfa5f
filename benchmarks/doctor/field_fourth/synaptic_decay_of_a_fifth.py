"""The optimiser of a rate network has a weight decay of 0.2, meant to keep the synapses small.

Source: kind: "the network outputs a constant", weight_decay far above 1e-4
Data: context-dependent choice: a context at the start says which of two later stimuli counts.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, accuracy, batched, cross_entropy, fit

UNITS = 32


class ContextNetwork(nn.Module):
    """A leaky rate network over context and stimuli."""

    def __init__(self, alpha: float = 0.3) -> None:
        super().__init__()
        self.alpha = alpha
        self.w_in = nn.Linear(4, UNITS)
        self.w_rec = nn.Linear(UNITS, UNITS, bias=False)
        self.w_out = nn.Linear(UNITS, 2)

    def forward(self, u: Tensor) -> Tensor:
        v = u.new_zeros(u.size(0), UNITS)
        for t in range(u.size(1)):
            v = v + self.alpha * (self.w_in(u[:, t]) + self.w_rec(v.tanh()) - v)
        return self.w_out(v.tanh())


def trials(count: int, steps: int = 14) -> tuple[Tensor, Tensor]:
    u = 0.1 * torch.randn(count, steps, 4)
    context = torch.randint(2, (count,))
    stimuli = torch.randint(2, (count, 2))
    rows = torch.arange(count)
    u[rows, 0, context] += 2
    u[rows, 1, context] += 2
    u[:, 9:12, 2:] += (2.0 * stimuli - 1)[:, None]
    return u, stimuli[rows, context]


def make(faulty: bool) -> Case:
    def adam(model):
        decay = 0.2 if faulty else 1e-5
        return torch.optim.Adam(model.parameters(), lr=0.01, weight_decay=decay)

    batches = batched(*trials(768 + 256))
    train, test = batches[:24], batches[24:]
    return Case(
        ContextNetwork(),
        train,
        cross_entropy,
        lambda model: fit(model, train, cross_entropy, epochs=15, optimizer=adam(model)),
        lambda model: accuracy(model, test),
        chance=0.5,
        good=0.9,
        accept={"right": {"weight decay"}, "partly": {"undertrained", "forgetting"}}
        if faulty
        else {"healthy"},
        options=lambda model: {"optimizer": adam},
    )
