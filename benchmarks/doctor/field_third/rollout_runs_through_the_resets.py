"""A policy's state runs on through the ends of episodes inside a rollout.

Source: ikostrikov/pytorch-a2c-ppo-acktr-gail issue 206 and openai/baselines issue 340, states that
are not reset where an episode is done. The critic answers the goal that
the first observation of the episode names.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.doctor.field_case import Case, Loss, explained, fit


class Agent(nn.Module):
    def __init__(self, reset: bool) -> None:
        super().__init__()
        self.cell = nn.GRUCell(2, 24)
        self.value = nn.Linear(24, 1)
        self.reset = reset

    def forward(self, observation: Tensor, start: Tensor) -> Tensor:
        state = observation.new_zeros(observation.shape[1], 24)
        values = []
        for x, s in zip(observation, start, strict=True):
            if self.reset:
                state = state * (1 - s)[:, None]
            state = self.cell(x, state)
            values.append(self.value(state)[:, 0])
        return torch.stack(values)


def rollout(steps: int, environments: int) -> tuple[Tensor, Tensor, Tensor]:
    observation = torch.randn(steps, environments, 2)
    start = (torch.rand(steps, environments) < 0.12).float()
    start[0] = 1
    goal, goals = torch.zeros(environments), []
    for x, s in zip(observation, start, strict=True):
        goal = torch.where(s > 0, x[:, 0], goal)
        goals.append(goal)
    return observation, start, torch.stack(goals)


def make(faulty: bool) -> Case:
    batches = [rollout(32, 32) for _ in range(32)]
    train, test = batches[:24], batches[24:]

    def loss(model: nn.Module, batch: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        observation, start, goal = batch
        return F.mse_loss(model(observation, start), goal)

    typed: Loss = loss
    return Case(
        Agent(reset=not faulty),
        train,
        typed,
        lambda model: fit(model, train, typed, epochs=16),
        lambda model: explained(model, test),
        chance=0.0,
        good=0.8,
        accept={"right": {"state leak"}, "partly": {"no long dependency"}}
        if faulty
        else {"healthy", "no long dependency"},
    )
