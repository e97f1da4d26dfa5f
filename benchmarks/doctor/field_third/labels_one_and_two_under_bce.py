"""The file's labels are 1 and 2, and go to `binary_cross_entropy_with_logits` as they are.

Source: kind: forum threads "BCE loss becomes negative". All answers grow without end.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.doctor.field_case import Case, batched, fit


class CallClassifier(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(3, 16, batch_first=True)
        self.fc = nn.Linear(16, 1)

    def forward(self, x: Tensor) -> Tensor:
        _, h = self.gru(x)
        return self.fc(h[-1])[:, 0]


def calls(count: int, steps: int) -> tuple[Tensor, Tensor]:
    """A call rises, then falls, or falls, then rises; the order alone is the class."""
    y = torch.randint(2, (count,))
    x = 0.4 * torch.randn(count, steps, 3)
    sign = (2 * y - 1).float()[:, None]
    x[:, 2:7, 0] += sign
    x[:, 10:15, 0] -= sign
    return x, y


def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    x, label = batch
    return F.binary_cross_entropy_with_logits(model(x), label)


def make(faulty: bool) -> Case:
    x, y = calls(32 * 44, 22)
    first = 1.0 if faulty else 0.0
    batches = batched(x, y + first)
    train, test = batches[:34], batches[34:]

    def score(model: nn.Module) -> float:
        with torch.no_grad():
            right = [((model(x) > 0) == (y > first)).float().mean() for x, y in test]
        return float(torch.stack(right).mean())

    return Case(
        CallClassifier(),
        train,
        loss,
        lambda model: fit(model, train, loss, epochs=8),
        score,
        chance=0.5,
        good=0.92,
        accept={"right": {"answers do not fit the loss"}, "partly": set()}
        if faulty
        else {"healthy", "no long dependency"},
    )
