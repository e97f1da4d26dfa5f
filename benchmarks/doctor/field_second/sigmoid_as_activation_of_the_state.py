"""The state of an actor-critic's own cell passes a sigmoid at each step, so the gradient vanishes.

Source: ikostrikov/pytorch-a2c-ppo-acktr-gail issue 15, on recurrent policies (kind: the activation
of a hand-written cell). The sign at the entrance decides the action and the value at the end.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.doctor.field_case import Case, batched, fit

Batch = tuple[Tensor, Tensor, Tensor]


class ActorCritic(nn.Module):
    def __init__(self, activation: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.inputs = nn.Linear(4, 40)
        self.recurrent = nn.Linear(40, 40, bias=False)
        self.actor = nn.Linear(40, 2)
        self.critic = nn.Linear(40, 1)
        self.activation = activation
        nn.init.orthogonal_(self.recurrent.weight)

    def forward(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        state = observations.new_zeros(len(observations), 40)
        for t in range(observations.shape[1]):
            state = self.activation(self.inputs(observations[:, t]) + self.recurrent(state))
        return self.actor(state), self.critic(state)[:, 0]


def corridors(count: int, steps: int = 40) -> Batch:
    action = torch.randint(2, (count,))
    observations = 0.2 * torch.randn(count, steps, 4)
    observations[torch.arange(count), 0, action] += 2
    observations[:, -1, 2] += 1
    value = torch.where(action == 0, -1.0, 1.0) + 0.1 * torch.randn(count)
    return observations, action, value


def loss(model: nn.Module, batch: Batch) -> Tensor:
    observations, action, target = batch
    logits, value = model(observations)
    return F.cross_entropy(logits, action) + 0.5 * F.mse_loss(value, target)


def score(model: nn.Module, batches: list[Batch]) -> float:
    model.eval()
    with torch.no_grad():
        right = [(model(x)[0].argmax(-1) == action).float().mean() for x, action, _ in batches]
    return float(torch.stack(right).mean())


def make(faulty: bool) -> Case:
    batches = batched(*corridors(32 * 44))
    train, test = batches[:36], batches[36:]
    return Case(
        ActorCritic(torch.sigmoid if faulty else torch.tanh),
        train,
        loss,
        lambda model: fit(model, train, loss, epochs=12, lr=0.002),
        lambda model: score(model, test),
        chance=0.5,
        good=0.9,
        accept={"right": {"vanishing gradient"}, "partly": {"forgetting"}}
        if faulty
        else {"healthy"},
    )
