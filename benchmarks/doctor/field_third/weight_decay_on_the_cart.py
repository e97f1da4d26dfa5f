"""Adam trains a controller with a weight decay of 0.3, added to the gradient.

Source: kind: discuss.pytorch.org 98896, an almost straight line as forecast; a strong weight decay
against overfitting. Data: pushes on a cart; the answer is the force that brings it back.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, explained, fit, squared_error


class Cart(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(2, 24, num_layers=2, batch_first=True)
        self.force = nn.Linear(24, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.force(self.gru(x)[0])[..., 0]


def pushes(count: int, steps: int) -> tuple[Tensor, Tensor]:
    x = torch.randn(count, steps, 2)
    speed = 0.3 * (x[..., 0] - 0.5 * x[..., 1]).cumsum(1)
    return x, -0.6 * speed


def make(faulty: bool) -> Case:
    batches = batched(*pushes(32 * 40, 18))
    train, test = batches[:32], batches[32:]

    def optimizer(model: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.Adam(model.parameters(), lr=0.01, weight_decay=0.3 if faulty else 0.0)

    return Case(
        Cart(),
        train,
        squared_error,
        lambda model: fit(model, train, squared_error, epochs=8, optimizer=optimizer(model)),
        lambda model: explained(model, test),
        chance=0.0,
        good=0.8,
        accept={"right": {"weight decay"}, "partly": set()}
        if faulty
        else {"healthy", "no long dependency"},
        options=lambda model: {"optimizer": optimizer(model)},
    )
