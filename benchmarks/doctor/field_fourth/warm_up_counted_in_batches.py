"""The warm-up is counted in batches, and its scheduler steps once an epoch.

Source: https://github.com/Tony-Y/pytorch_warmup/issues/17 and
https://github.com/ildoonet/pytorch-gradual-warmup-lr/issues/22
Data: the torque of a motor follows from the command of four steps before.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, explained, squared_error

WARM_UP, EPOCHS, LAG = 400, 24, 4


class Motor(nn.Module):
    """A GRU over a window of commands, and the torque at its end."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(2, 24, batch_first=True)
        self.torque = nn.Linear(24, 1)

    def forward(self, commands: Tensor) -> Tensor:
        return self.torque(self.gru(commands)[0][:, -1]).squeeze(-1)


def make(faulty: bool) -> Case:
    commands = torch.randn(1024 + 256, 12, 2)
    batches = batched(commands, commands[:, -1 - LAG].sum(-1).tanh())
    train, test = batches[:32], batches[32:]

    def warm(count: int) -> float:
        return min(1.0, (count + 1) / WARM_UP)

    rate = [0.0]

    def fit(model: nn.Module) -> None:
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, warm)
        for _ in range(EPOCHS):
            for batch in train:
                optimizer.zero_grad()
                squared_error(model, batch).backward()
                optimizer.step()
                if not faulty:
                    scheduler.step()
            if faulty:
                scheduler.step()
        rate[0] = optimizer.param_groups[0]["lr"]

    return Case(
        Motor(),
        train,
        squared_error,
        fit,
        lambda model: explained(model, test),
        chance=0.0,
        good=0.8,
        accept={"right": {"step size", "undertrained"}, "partly": {"not trained"}}
        if faulty
        else {"healthy", "no long dependency"},
        options=lambda model: {
            "optimizer": torch.optim.Adam(model.parameters(), lr=rate[0] or 0.01 * warm(0))
        },
    )
