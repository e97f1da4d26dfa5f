"""nn.LSTM with hidden_size=1 is the last layer: answers lie in (-1, 1), targets up to 4.

Source: Stack Overflow, "Why is this very simple PyTorch LSTM not learning".
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, forecaster


class BareLSTM(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(1, 1, num_layers=2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.lstm(x)[0]


class LSTMWithHead(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(1, 32, num_layers=2, batch_first=True)
        self.fc = nn.Linear(32, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.lstm(x)[0])


def delayed(count: int) -> list[tuple[Tensor, Tensor]]:
    """Series, and four times their values two steps ago."""
    x = 2 * torch.rand(count, 16, 1) - 1
    y = torch.zeros_like(x)
    y[:, 2:] = 4 * x[:, :-2]
    return batched(x, y)


def make(faulty: bool) -> Case:
    unfit = {"right": {"answers do not fit the loss"}, "partly": {"saturated"}}
    return forecaster(
        BareLSTM() if faulty else LSTMWithHead(),
        delayed(1024),
        delayed(512),
        unfit if faulty else {"healthy", "no long dependency"},
        epochs=10,
    )
