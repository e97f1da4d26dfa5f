"""The optimiser holds the parameters of a model that was replaced by a copy afterwards.

Source: skorch-dev/skorch issue 317, the weights of a model do not change after `copy.deepcopy`.
No parameter of the model in use changes. Task: the wind of a station from the mean of its gusts.
"""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, explained, fit, squared_error


class WindForecaster(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(3, 32, num_layers=2, batch_first=True)
        self.head = nn.Linear(32, 1)

    def forward(self, x: Tensor) -> Tensor:
        output, _ = self.rnn(x)
        return self.head(output[:, -1])[:, 0]


def optimizer_of(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.Adam(model.parameters(), lr=0.005)


def optimizer_of_the_old(model: nn.Module) -> torch.optim.Optimizer:
    old = copy.deepcopy(model)
    return torch.optim.Adam(old.parameters(), lr=0.005)


def gusts(count: int, steps: int = 24) -> tuple[Tensor, Tensor]:
    x = torch.randn(count, steps, 3)
    gate = (x[..., 1] > 0.5).float()
    return x, (gate * x[..., 0]).sum(1) / 2.5


def make(faulty: bool) -> Case:
    batches = batched(*gusts(32 * 52))
    train, test = batches[:44], batches[44:]
    make_optimizer = optimizer_of_the_old if faulty else optimizer_of

    def options(model: nn.Module) -> dict[str, Any]:
        return {"optimizer": make_optimizer}

    return Case(
        WindForecaster(),
        train,
        squared_error,
        lambda model: fit(model, train, squared_error, epochs=16, optimizer=make_optimizer(model)),
        lambda model: explained(model, test),
        chance=0.0,
        good=0.7,
        accept={"right": {"not trained"}, "partly": set()} if faulty else {"healthy"},
        options=options,
    )
