"""Gradients accumulate over four batches before each step, and nothing ever clears them.

Source: kind: forum threads on gradient accumulation that leave out `optimizer.zero_grad()`.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, accuracy, batched, cross_entropy


class SwipeReader(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(2, 24, batch_first=True)
        self.fc = nn.Linear(24, 4)

    def forward(self, x: Tensor) -> Tensor:
        _, h = self.gru(x)
        return self.fc(h[-1])


def swipes(count: int, steps: int) -> tuple[Tensor, Tensor]:
    y = torch.randint(4, (count,))
    x = 0.7 * torch.randn(count, steps, 2)
    direction = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])[y]
    x[:, 2:6] += 1.2 * direction[:, None]
    return x, y


def make(faulty: bool) -> Case:
    batches = batched(*swipes(32 * 48, 26))
    train, test = batches[:40], batches[40:]
    calls = [0]

    def optimizer(model: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.Adam(model.parameters(), lr=0.02)

    def step(model: nn.Module, optimizer: torch.optim.Optimizer, batch: tuple[Tensor, ...]) -> None:
        (cross_entropy(model, batch) / 4).backward()
        calls[0] += 1
        if calls[0] % 4 == 0:
            optimizer.step()
            if not faulty:
                optimizer.zero_grad()

    def train_model(model: nn.Module) -> None:
        own = optimizer(model)
        for _ in range(20):
            for i in torch.randperm(len(train)).tolist():
                step(model, own, train[i])

    return Case(
        SwipeReader(),
        train,
        cross_entropy,
        train_model,
        lambda model: accuracy(model, test),
        chance=0.25,
        good=0.88,
        accept={"right": {"gradients not zeroed"}, "partly": {"step size"}}
        if faulty
        else {"healthy", "no long dependency"},
        options=lambda model: {"training_step": step, "optimizer": optimizer},
    )
