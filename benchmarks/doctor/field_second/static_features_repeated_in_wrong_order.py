"""Static features are repeated with `repeat(steps, 1)` and then viewed as (batch, step, feature).

Source: kind: reshape mistakes as in datascience.stackexchange.com 54551, here of static features.
A sample then reads the static features of other samples. Data: sites with several sensors; the
static features say which sensor of the site is the target.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.doctor.field_case import Case, batched, forecaster

SENSORS = 4


class SiteForecaster(nn.Module):
    def __init__(self, scrambled: bool) -> None:
        super().__init__()
        self.rnn = nn.LSTM(2 * SENSORS, 32, batch_first=True)
        self.head = nn.Sequential(nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 1))
        self.scrambled = scrambled

    def forward(self, series: Tensor, site: Tensor) -> Tensor:
        batch, steps, _ = series.shape
        if self.scrambled:
            static = site.repeat(steps, 1).view(batch, steps, -1)
        else:
            static = site.unsqueeze(1).expand(-1, steps, -1)
        _, (state, _) = self.rnn(torch.cat((series, static), dim=2))
        return self.head(state[-1])[:, 0]


def sites(count: int, steps: int = 20) -> tuple[Tensor, Tensor, Tensor]:
    level = torch.randn(count, 1, SENSORS)
    series = level + 0.7 * torch.randn(count, steps, SENSORS)
    which = torch.randint(SENSORS, (count,))
    target = level[torch.arange(count), 0, which]
    return series, F.one_hot(which, SENSORS).float(), target


def make(faulty: bool) -> Case:
    batches = batched(*sites(32 * 52))
    return forecaster(
        SiteForecaster(scrambled=faulty),
        batches[:44],
        batches[44:],
        accept={"right": {"samples mixed"}, "partly": set()}
        if faulty
        else {"healthy", "no long dependency"},
        epochs=12,
        lr=0.006,
        good=0.75,
    )
