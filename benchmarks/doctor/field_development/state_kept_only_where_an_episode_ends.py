"""A recurrent policy multiplies its state by `done`, not by `1 - done`: it forgets every step.

Source: ikostrikov/pytorch-a2c-ppo-acktr-gail issues 193 and 206 on masks of recurrent states.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.doctor.field_case import Case, fit

Batch = dict[str, Tensor]


class Policy(nn.Module):
    def __init__(self, inverted: bool) -> None:
        super().__init__()
        self.embed = nn.Linear(4, 24)
        self.cell = nn.GRUCell(24, 32)
        self.actions = nn.Linear(32, 3)
        self.inverted = inverted

    def forward(self, observations: Tensor, done: Tensor) -> Tensor:
        state = observations.new_zeros(len(observations), 32)
        chosen = []
        for t in range(observations.shape[1]):
            mask = done[:, t, None] if self.inverted else 1 - done[:, t, None]
            state = self.cell(self.embed(observations[:, t]).tanh(), state * mask)
            chosen.append(self.actions(state))
        return torch.stack(chosen, 1)


def cloning(model: nn.Module, batch: Batch) -> Tensor:
    answers = model(batch["observations"], batch["done"])
    return F.cross_entropy(answers.flatten(0, 1), batch["actions"].flatten())


def rollouts(count: int) -> list[Batch]:
    """The right action is shown at the first step of an episode; episodes start at any step."""
    done = (torch.rand(count, 32, 24) < 0.08).float()
    done[:, :, 0] = 0
    action = torch.randint(3, (count, 32))
    observations, actions = 0.3 * torch.randn(count, 32, 24, 4), []
    for t in range(24):
        starts = done[:, :, t] > 0 if t else torch.ones(count, 32, dtype=torch.bool)
        action = torch.where(starts, torch.randint(3, (count, 32)), action)
        shown = 2.0 * F.one_hot(action, 4) * starts[..., None]
        observations[:, :, t] += shown
        actions.append(action)
    target = torch.stack(actions, 2)
    return [
        {"observations": o, "done": d, "actions": a}
        for o, d, a in zip(observations, done, target, strict=True)
    ]


def make(faulty: bool) -> Case:
    train, test = rollouts(24), rollouts(6)

    @torch.no_grad()
    def score(model: nn.Module) -> float:
        right = [
            (model(b["observations"], b["done"]).argmax(-1) == b["actions"]).float().mean()
            for b in test
        ]
        return float(torch.stack(right).mean())

    return Case(
        Policy(faulty),
        train,
        cloning,
        lambda m: fit(m, train, cloning, epochs=12),
        score,
        0.4,
        0.9,
        {"right": {"forgetting"}, "partly": {"gradient cut"}} if faulty else {"healthy"},
    )
