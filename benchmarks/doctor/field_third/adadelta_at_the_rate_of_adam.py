"""Adadelta runs at 0.001, a rate that was copied from Adam; its own default is 1.

Source: kind: Keras issues on Adadelta, whose default rate of 0.001 leaves networks untrained.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, accuracy, batched, cross_entropy, cued, fit


class GestureReader(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4)
        self.lstm = nn.LSTM(4, 24, batch_first=True)
        self.fc = nn.Linear(24, 4)

    def forward(self, x: Tensor) -> Tensor:
        out, _ = self.lstm(self.norm(x))
        return self.fc(out.mean(1))


def make(faulty: bool) -> Case:
    batches = batched(*cued(32 * 44, 20, classes=4, at=3, noise=0.4))
    train, test = batches[:36], batches[36:]

    def optimizer(model: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.Adadelta(model.parameters(), lr=0.001 if faulty else 1.0)

    return Case(
        GestureReader(),
        train,
        cross_entropy,
        lambda model: fit(model, train, cross_entropy, 48, optimizer=optimizer(model)),
        lambda model: accuracy(model, test),
        chance=0.25,
        good=0.88,
        accept={"right": {"step size", "undertrained"}, "partly": set()}
        if faulty
        else {"healthy", "no long dependency"},
        options=lambda model: {"optimizer": optimizer},
    )
