"""Small models with known faults, as users write them, and data that need a memory."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

TIME, BATCH, WIDTH = 12, 10, 3


class Classifier(nn.Module):
    """A recurrent layer with a linear read-out of its last step."""

    def __init__(self, layer: nn.Module, classes: int = 2, *, read: str = "last"):
        super().__init__()
        self.layer, self.read = layer, read
        width = layer.hidden_size * (2 if getattr(layer, "bidirectional", False) else 1)
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Classes, (batch, classes), or at every step."""
        outputs, _ = self.layer(x)
        return self.head(outputs if self.read == "steps" else outputs[:, -1])


class Chunked(nn.Module):
    """Runs its layer in chunks of four steps; what it does with the state between them varies."""

    def __init__(self, between: str):
        super().__init__()
        self.layer = nn.LSTM(WIDTH, 5, batch_first=True)
        self.head = nn.Linear(5, 2)
        self.between = between

    def forward(self, x: Tensor) -> Tensor:
        """Classes."""
        state = None
        for k, chunk in enumerate(x.split(4, 1)):
            with torch.set_grad_enabled(not (self.between == "no_grad" and k == 0)):
                outputs, state = self.layer(chunk, state)
            if self.between == "detach":
                state = (state[0].detach(), state[1].detach())
            if self.between == "drop":
                state = None
        return self.head(outputs[:, -1])


class Keeping(nn.Module):
    """Starts each batch from the state of the one before."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.GRU(WIDTH, 5, batch_first=True)
        self.head = nn.Linear(5, 2)
        self.state: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Classes."""
        outputs, self.state = self.layer(x, self.state)
        return self.head(outputs[:, -1])


def first_steps(count: int = 12, batch: int = BATCH, time: int = TIME) -> list[Any]:
    """Batches (x, y) with x (batch, time, width) noise, y the sign of what the first step adds."""
    made = []
    for _ in range(count):
        x = 0.3 * torch.randn(batch, time, WIDTH)
        y = torch.randint(2, (batch,))
        x[:, 0, 0] += 2.0 * y - 1.0
        made.append((x, y))
    return made


def echoes(count: int = 12, shift: int = 3) -> list[Any]:
    """Batches (x, y) with y_t the sign of x_{t - shift}, at every step."""
    made = []
    for _ in range(count):
        x = torch.randn(BATCH, TIME, WIDTH)
        y = (x[:, :, 0].roll(shift, 1) > 0).long()
        made.append((x, y))
    return made


def cross_entropy(model: nn.Module, batch: Any) -> Tensor:
    """Of classes at the end or at every step."""
    x, y = batch
    return F.cross_entropy(model(x).flatten(0, -2), y.flatten())
