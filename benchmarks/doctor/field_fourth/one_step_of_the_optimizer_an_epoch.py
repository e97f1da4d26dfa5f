"""optimizer.step() stands one level too far to the left: it runs once an epoch.

Source: kind: indentation of the training loop, e.g. https://github.com/VGraphRNN/VGRNN/issues/4
(a call after its place)
Data: the sign of a sensor's first three readings decides the set point of a controller.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, explained, squared_error


class SetPoint(nn.Module):
    """An LSTM over a sensor's readings, and the set point after the last."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(2, 24, batch_first=True)
        self.point = nn.Linear(24, 1)

    def forward(self, readings: Tensor) -> Tensor:
        return self.point(self.lstm(readings)[0][:, -1]).squeeze(-1)


def readings(count: int, steps: int = 10) -> tuple[Tensor, Tensor]:
    x = torch.randn(count, steps, 2)
    return x, x[:, :3, 0].mean(1).mul(2).sign()


def make(faulty: bool) -> Case:
    batches = batched(*readings(1024 + 256))
    train, test = batches[:32], batches[32:]
    losses: list[float] = []

    def fit(model: nn.Module) -> None:
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        for _ in range(10):
            for batch in train:
                optimizer.zero_grad()
                loss = squared_error(model, batch)
                loss.backward()
                losses.append(loss.item())
                if not faulty:
                    optimizer.step()
            if faulty:
                optimizer.step()

    return Case(
        SetPoint(),
        train,
        squared_error,
        fit,
        lambda model: explained(model, test),
        chance=0.0,
        good=0.7,
        accept={"right": {"undertrained"}, "partly": {"not trained", "step size"}}
        if faulty
        else {"healthy", "no long dependency"},
        options=lambda model: {"history": losses},
    )
