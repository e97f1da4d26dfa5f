"""SGD with momentum runs at a learning rate of 5: the loss jumps and stays at chance.

Source: kind: pytorch/examples word_language_model, whose rate of 20 users copy to other problems.
The twin has a rate of 0.1.
"""

import math

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, accuracy, batched, cross_entropy, fit


class MachineState(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(2, 20, batch_first=True)
        self.fc = nn.Linear(20, 3)

    def forward(self, x: Tensor) -> Tensor:
        _, h = self.gru(x)
        return self.fc(h[-1])


def vibrations(count: int, steps: int) -> tuple[Tensor, Tensor]:
    y = torch.randint(3, (count,))
    phase = 2 * math.pi * torch.rand(count, 1)
    rate = torch.tensor([0.25, 0.6, 1.1])[y, None]
    wave = torch.sin(phase + rate * torch.arange(steps))
    x = torch.stack((wave, torch.zeros_like(wave)), 2)
    return x + 0.2 * torch.randn_like(x), y


def make(faulty: bool) -> Case:
    batches = batched(*vibrations(32 * 44, 24))
    train, test = batches[:34], batches[34:]

    def optimizer(model: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.SGD(model.parameters(), lr=5.0 if faulty else 0.1, momentum=0.9)

    return Case(
        MachineState(),
        train,
        cross_entropy,
        lambda model: fit(model, train, cross_entropy, 10, optimizer=optimizer(model)),
        lambda model: accuracy(model, test),
        chance=1 / 3,
        good=0.9,
        accept={"right": {"step size"}, "partly": {"saturated", "exploding gradient"}}
        if faulty
        else {"healthy", "no long dependency"},
        options=lambda model: {"optimizer": optimizer},
    )
