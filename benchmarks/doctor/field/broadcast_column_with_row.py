"""The answers have the shape (batch, 1), the targets (batch,): their difference is a square.

Source: discuss.pytorch.org 202270, "In a number sequence 1,2,3,4 estimate the next number using
LSTM": a target size that differs from the input size.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, fit


class WearModel(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(3, 20, 2, batch_first=True)
        self.dropout = nn.Dropout(0.05)
        self.regressor = nn.Linear(20, 1)

    def forward(self, x: Tensor) -> Tensor:
        out, _ = self.lstm(x)
        return self.regressor(self.dropout(out[:, -1]))


def machines(count: int, steps: int) -> tuple[Tensor, Tensor]:
    """Load, speed, temperature; the wear grows with load times speed, unless it is cold."""
    x = torch.rand(count, steps, 3)
    wear = (x[..., 0] * x[..., 1] * (x[..., 2] > 0.3)).sum(1)
    return x, (wear - wear.mean()) / wear.std()


def make(faulty: bool) -> Case:
    batches = batched(*machines(32 * 48, 20))
    train, test = batches[:40], batches[40:]

    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        x, y = batch
        prediction = model(x) if faulty else model(x).squeeze(-1)
        return ((prediction - y) ** 2).mean()

    def score(model: nn.Module) -> float:
        model.eval()
        with torch.no_grad():
            error = [((model(x).squeeze(-1) - y) ** 2).mean() for x, y in test]
        return 1 - float(torch.stack(error).mean())

    return Case(
        WearModel(),
        train,
        loss,
        lambda model: fit(model, train, loss, epochs=36),
        score,
        chance=0.0,
        good=0.6,
        accept={"right": {"target meets other answers"}, "partly": set()}
        if faulty
        else {"healthy"},
    )
