"""The images are sorted by number and the measured values are not, so that rows do not fit.

Source: kind: keras-team/keras-preprocessing issue 66, targets that do not belong to their windows.
Data: digits, four pixels a step; the value is how far the ink lies to the right.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, digits, forecaster


class Balance(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(4, 20, batch_first=True, bidirectional=True)
        self.fc = nn.Linear(40, 1)

    def forward(self, x: Tensor) -> Tensor:
        _, (h_n, _) = self.lstm(x)
        return self.fc(torch.cat((h_n[0], h_n[1]), 1))[:, 0]


def make(faulty: bool) -> Case:
    images, _ = digits()
    x = images.reshape(-1, 16, 4)
    balance = images[..., 4:].sum((1, 2)) - images[..., :4].sum((1, 2))
    balance = (balance - balance.mean()) / balance.std()
    known = x[: 36 * 42]
    if faulty:
        known = known[torch.randperm(len(known)).argsort()]
    return forecaster(
        Balance(),
        batched(known, balance[: 36 * 42], size=36),
        batched(x[36 * 42 :], balance[36 * 42 :], size=36),
        {"right": {"no dependence found"}, "partly": {"target meets other answers"}}
        if faulty
        else {"healthy", "no long dependency"},
        epochs=10,
        lr=0.005,
        good=0.8,
    )
