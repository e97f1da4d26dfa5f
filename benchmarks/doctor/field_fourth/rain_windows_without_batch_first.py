"""Windows of (sample, day, feature) go into an LSTM without batch_first.

Source: https://discuss.pytorch.org/t/time-series-the-prediction-result-of-lstm-is-approximately-straight-line/98896
Data: rain falls at random; the discharge of a river is the rain of four to seven days before.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, forecaster


class DischargeLSTM(nn.Module):
    """Two LSTM layers over a window of daily weather, and a linear head on the last day."""

    def __init__(self, n_features: int, hidden: int, batch_first: bool) -> None:
        super().__init__()
        self.lstm = nn.LSTM(n_features, hidden, num_layers=2, batch_first=batch_first)
        self.fc = nn.Linear(hidden, 1)

    def forward(self, window: Tensor) -> Tensor:
        out, _ = self.lstm(window)
        return self.fc(out[:, -1, :]).squeeze(-1)


def rain(count: int, days: int = 14) -> tuple[Tensor, Tensor]:
    weather = torch.randn(count, days, 3)
    discharge = weather[:, -8:-4, 0] @ torch.tensor([0.3, 0.8, 0.6, 0.2])
    return weather, discharge + 0.05 * torch.randn(count)


def make(faulty: bool) -> Case:
    batches = batched(*rain(1024 + 256))
    return forecaster(
        DischargeLSTM(3, 20, batch_first=not faulty),
        batches[:32],
        batches[32:],
        {"right": {"time and batch swapped"}, "partly": {"samples mixed"}}
        if faulty
        else {"healthy", "no long dependency"},
        epochs=16,
    )
