"""The decoder starts from zeros: the state of the encoder is computed and then not passed on.

Source: keras-team/keras issue 2995, on how to give the encoder's state to the decoder. Data: the
path of a vehicle; the decoder forecasts the next steps from the last position and the encoder.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, forecaster

PAST, FUTURE = 20, 8


class PathForecaster(nn.Module):
    def __init__(self, passed: bool) -> None:
        super().__init__()
        self.encoder = nn.GRU(2, 40, batch_first=True)
        self.decoder = nn.GRUCell(2, 40)
        self.offset = nn.Linear(40, 2)
        self.passed = passed

    def forward(self, past: Tensor) -> Tensor:
        _, encoded = self.encoder(past)
        state = encoded[-1] if self.passed else torch.zeros_like(encoded[-1])
        position, path = past[:, -1], []
        for _ in range(FUTURE):
            state = self.decoder(position, state)
            position = position + self.offset(state)
            path.append(position)
        return torch.stack(path, dim=1) - past[:, -1:]


def paths(count: int) -> tuple[Tensor, Tensor]:
    heading = 6.2832 * torch.rand(count, 1)
    turn = 0.25 * torch.randn(count, 1)
    angle = heading + turn * torch.arange(PAST + FUTURE)
    stride = 0.3 * torch.stack((angle.cos(), angle.sin()), dim=2)
    position = stride.cumsum(1)
    position = position - position[:, PAST - 1 : PAST]
    past = position[:, :PAST] + 0.05 * torch.randn(count, PAST, 2)
    return past, position[:, PAST:]


def make(faulty: bool) -> Case:
    batches = batched(*paths(32 * 44))
    return forecaster(
        PathForecaster(passed=not faulty),
        batches[:36],
        batches[36:],
        accept={"right": {"gradient cut"}, "partly": {"forgetting", "no dependence found"}}
        if faulty
        else {"healthy", "no long dependency"},
        epochs=14,
        lr=0.005,
        good=0.8,
    )
