"""The inputs are a pressure in pascal and a speed in revolutions a minute, not scaled.

Source: keras-team/keras, issue 1727, "LSTM is always predicting constant", and
nasa/prog_models, issue 334, "Normalizing Inputs".
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, explained, fit, squared_error


class PumpModel(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(2, 32, batch_first=True)
        self.fc1 = nn.Linear(32, 16)
        self.fc2 = nn.Linear(16, 1)

    def forward(self, x: Tensor) -> Tensor:
        out, _ = self.lstm(x)
        return self.fc2(torch.relu(self.fc1(out[:, -1])))


def pumps(count: int, steps: int) -> tuple[Tensor, Tensor]:
    """The flow decays, and grows with the deviation of pressure and speed from their means."""
    deviation = torch.randn(count, steps, 2)
    flow = torch.zeros(count)
    for t in range(steps):
        flow = 0.85 * flow + 0.3 * deviation[:, t, 0] - 0.2 * deviation[:, t].prod(-1)
    x = torch.tensor((101325.0, 2900.0)) + deviation * torch.tensor((1500.0, 120.0))
    return x, flow[:, None]


def make(faulty: bool) -> Case:
    x, y = pumps(32 * 44, 20)
    if not faulty:
        x = (x - x.mean((0, 1))) / x.std((0, 1))
    batches = batched(x, y)
    train, test = batches[:36], batches[36:]
    return Case(
        PumpModel(),
        train,
        squared_error,
        lambda model: fit(model, train, squared_error, epochs=15),
        lambda model: explained(model, test),
        chance=0.0,
        good=0.75,
        accept={"right": {"inputs not scaled"}, "partly": {"saturated"}}
        if faulty
        else {"healthy", "no long dependency"},
    )
