"""clip_grad_norm_ stands before backward(), where there are no gradients yet.

Source: https://github.com/Cranial-XIX/FAMO/issues/4 and https://github.com/VGraphRNN/VGRNN/issues/4
Data: a linear plant of two tanks; the level after forty steps follows from the valve's commands.
"""

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.doctor.field_case import Case, batched, explained

STEPS = 40
DIVERGED = 1e6  # the loss at which the user returns to the last checkpoint


class Plant(nn.Module):
    """A rectified network as the model of a plant, started a little above the identity."""

    def __init__(self, units: int = 24) -> None:
        super().__init__()
        self.rnn = nn.RNN(2, units, nonlinearity="relu", batch_first=True)
        with torch.no_grad():
            self.rnn.get_parameter("weight_hh_l0").copy_(1.1 * torch.eye(units))
        self.level = nn.Linear(units, 1)

    def forward(self, commands: Tensor) -> Tensor:
        return self.level(self.rnn(commands)[0][:, -1]).squeeze(-1)


def tanks(count: int) -> tuple[Tensor, Tensor]:
    commands = torch.randn(count, STEPS, 2)
    return commands, commands[:, :, 0].sum(1) / STEPS**0.5


def loss_fn(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """The squared error of the level."""
    commands, level = batch
    return F.mse_loss(model(commands), level)


def make(faulty: bool) -> Case:
    def training_step(model, optimizer, batch) -> None:
        optimizer.zero_grad()
        loss = loss_fn(model, batch)
        if faulty:
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        loss.backward()
        if not faulty:
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    def sgd(model):
        return torch.optim.SGD(model.parameters(), lr=0.01)

    def fit(model: nn.Module) -> None:
        optimizer, checkpoint = sgd(model), copy.deepcopy(model.state_dict())
        for _ in range(25):
            for batch in train:
                if not loss_fn(model, batch) < DIVERGED:
                    model.load_state_dict(checkpoint)
                    return
                checkpoint = copy.deepcopy(model.state_dict())
                training_step(model, optimizer, batch)

    batches = batched(*tanks(768 + 256))
    train, test = batches[:24], batches[24:]
    return Case(
        Plant(),
        train,
        loss_fn,
        fit,
        lambda model: explained(model, test),
        chance=0.0,
        good=0.65,
        accept={"right": {"exploding gradient"}, "partly": {"step size"}}
        if faulty
        else {"healthy"},
        options=lambda model: {"training_step": training_step, "optimizer": sgd},
    )
