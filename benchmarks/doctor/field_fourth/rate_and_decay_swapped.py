"""The learning rate and the weight decay of Adam change places: 0.0001 and 0.02.

Kind: arguments of the optimiser in the wrong order; GitHub keras-team/keras#2711 is a thread on a
loss that does not change, with the optimiser among the causes.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, accuracy, batched, cross_entropy, digits, fit


class RowClassifier(nn.Module):
    """A GRU over the rows of a digit."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(8, 32, batch_first=True)
        self.fc = nn.Linear(32, 10)

    def forward(self, image: Tensor) -> Tensor:
        out, _ = self.gru(image)
        return self.fc(out[:, -1])


def adam(model: nn.Module, weight_decay: float, lr: float) -> torch.optim.Optimizer:
    """Adam with weight decay."""
    return torch.optim.Adam(model.parameters(), lr=lr, weight_decay=weight_decay)


def make(faulty: bool) -> Case:
    """Return the program; the faulty one gives the rate in the place of the decay."""
    batches = batched(*digits())
    train, test = batches[:40], batches[40:]

    def optimizer_of(model: nn.Module) -> torch.optim.Optimizer:
        return adam(model, 0.02, 0.0001) if faulty else adam(model, 0.0001, 0.02)

    return Case(
        RowClassifier(),
        train,
        cross_entropy,
        lambda model: fit(model, train, cross_entropy, 12, optimizer=optimizer_of(model)),
        lambda model: accuracy(model, test),
        chance=0.1,
        good=0.9,
        accept={"right": {"step size", "weight decay"}, "partly": {"undertrained"}}
        if faulty
        else {"healthy", "no long dependency"},
        options=lambda _: {"optimizer": optimizer_of},
    )
