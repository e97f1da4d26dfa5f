"""An actor-critic batch: an LSTMCell in a loop, reset at the end of episodes; values meet returns.

Source: RLinf/RLinf, issue 1568, "PPO critic loss silently broadcasts [B] values against [B, 1]
returns". A rollout has several episodes; a light at the start of each tells its reward. Scored on
the variance of the returns that the critic explains.
"""

import torch
from torch import Tensor, nn
from torch.distributions import Categorical

from benchmarks.doctor.field_case import Case, fit

Rollout = dict[str, Tensor]


class ActorCritic(nn.Module):
    def __init__(self, observation: int, hidden: int, actions: int) -> None:
        super().__init__()
        self.hidden = hidden
        self.cell = nn.LSTMCell(observation, hidden)
        self.actor = nn.Linear(hidden, actions)
        self.critic = nn.Linear(hidden, 1)

    def forward(self, observations: Tensor, dones: Tensor) -> tuple[Tensor, Tensor]:
        h = c = observations.new_zeros(observations.size(1), self.hidden)
        features = []
        for observation, done in zip(observations, dones, strict=True):
            h, c = self.cell(observation, (h, c))
            features.append(h)
            keep = 1 - done.unsqueeze(1)
            h, c = h * keep, c * keep
        stacked = torch.stack(features)
        return self.actor(stacked), self.critic(stacked)


def rollout(steps: int, environments: int) -> Rollout:
    """The light is green or red at the first step of an episode; the reward comes at its end."""
    shape = (steps, environments)
    dones = (torch.rand(shape) < 0.12).float()
    starts = torch.cat((torch.ones(1, environments), dones[:-1]))
    light = torch.zeros(environments)
    lights = []
    for t in range(steps):
        light = torch.where(starts[t] > 0, torch.randint(2, (environments,)) * 2.0 - 1, light)
        lights.append(light)
    lit = torch.stack(lights)
    actions = torch.randint(2, shape)
    returns, running = torch.zeros(shape), torch.zeros(environments)
    for t in reversed(range(steps)):
        bonus = 0.1 * (actions[t] == (lit[t] > 0)).float()
        running = bonus + dones[t] * lit[t] + 0.95 * (1 - dones[t]) * running
        returns[t] = running
    observations = torch.stack((starts, starts * lit, torch.randn(shape)), -1)
    return {"obs": observations, "done": dones, "action": actions, "return": returns}


def make(faulty: bool) -> Case:
    train, test = [rollout(24, 24) for _ in range(40)], [rollout(24, 24) for _ in range(10)]

    def loss(model: nn.Module, batch: Rollout) -> Tensor:
        logits, values = model(batch["obs"], batch["done"])
        returns = batch["return"].flatten()
        values = values.view(-1, 1) if faulty else values.flatten()
        advantages = returns - values
        policy = Categorical(logits=logits.flatten(0, 1))
        chosen = policy.log_prob(batch["action"].flatten())
        actor = -(chosen * advantages.detach()).mean()
        return actor + 0.5 * advantages.square().mean() - 0.01 * policy.entropy().mean()

    def score(model: nn.Module) -> float:
        with torch.no_grad():
            pairs = [(model(b["obs"], b["done"])[1].squeeze(-1), b["return"]) for b in test]
        values, returns = (torch.cat([p[i] for p in pairs]) for i in (0, 1))
        return 1 - float((values - returns).square().mean() / returns.var())

    return Case(
        ActorCritic(3, 24, 2),
        train,
        loss,
        lambda model: fit(model, train, loss, epochs=12),
        score,
        chance=0.0,
        good=0.55,
        accept={"right": {"target meets other answers"}, "partly": {"samples mixed"}}
        if faulty
        else {"healthy"},
    )
