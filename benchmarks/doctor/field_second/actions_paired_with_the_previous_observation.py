"""Behaviour cloning pairs each observation with the action of the next step.

Source: PKU-MARL/HARL issue 75, on which step of a rollout belongs to which (kind: off by one). The
expert's action follows the light that is seen in the same step and the rule shown at the start.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, classifier


class Cloned(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(6, 32, batch_first=True)
        self.actor = nn.Sequential(nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 4))

    def forward(self, observations: Tensor) -> Tensor:
        output, _ = self.rnn(observations)
        return self.actor(output)


def rollouts(count: int, early: bool, steps: int = 30) -> tuple[Tensor, Tensor]:
    rule = torch.randint(2, (count, 1))
    light = torch.randint(4, (count, steps + 1))
    observations = torch.zeros(count, steps + 1, 6)
    observations.scatter_(2, light[..., None], 1.0)
    observations[:, 0, 4:].scatter_(1, rule, 1.0)
    actions = torch.where(rule == 0, light, 3 - light)
    shift = int(early)
    return observations[:, :steps], actions[:, shift : steps + shift]


def make(faulty: bool) -> Case:
    train = batched(*rollouts(32 * 30, early=faulty))
    test = batched(*rollouts(32 * 6, early=False))
    return classifier(
        Cloned(),
        train,
        test,
        accept={
            "right": {"answer at the wrong step", "target meets other answers"},
            "partly": {"no dependence found"},
        }
        if faulty
        else {"healthy"},
        epochs=14,
        classes=4,
        lr=0.006,
    )
