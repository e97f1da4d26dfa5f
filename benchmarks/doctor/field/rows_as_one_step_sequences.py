"""Each row of a table is a sequence of one step (`unsqueeze(1)`); the target needs earlier rows.

Source: pullrequest.ru 14707440 and pwwt.cn 273873, "how to shape time series data for an LSTM".
The level of a river follows the rain of the last days.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, explained, fit, squared_error

DAYS = 12


class RiverLevel(nn.Module):
    def __init__(self, features: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(features, 24, num_layers=2, batch_first=True)
        self.fc = nn.Linear(24, 1)

    def forward(self, x: Tensor) -> Tensor:
        out, _ = self.lstm(x)
        return self.fc(out[:, -1, :])


def table(days: int) -> tuple[Tensor, Tensor]:
    """Rain, temperature and wind of each day, and the level of the river."""
    rain = torch.rand(days) * (torch.rand(days) < 0.4)
    weather = torch.stack((rain, torch.randn(days), torch.rand(days)), 1)
    level = torch.zeros(days)
    for lag in range(2, 8):
        level[lag:] += rain[:-lag]
    return weather, (level - level.mean()) / level.std()


def make(faulty: bool) -> Case:
    x, y = table(32 * 44 + DAYS)
    samples = x[DAYS:].unsqueeze(1) if faulty else x.unfold(0, DAYS, 1).transpose(1, 2)[1:]
    batches = batched(samples, y[DAYS:, None])
    train, test = batches[:36], batches[36:]
    return Case(
        RiverLevel(3),
        train,
        squared_error,
        lambda model: fit(model, train, squared_error, epochs=18),
        lambda model: explained(model, test),
        chance=0.0,
        good=0.8,
        accept={"right": {"one-step sequences"}, "partly": {"no dependence found"}}
        if faulty
        else {"healthy", "no long dependency"},
    )
