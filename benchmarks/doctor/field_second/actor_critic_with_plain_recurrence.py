"""An actor-critic has a tanh recurrence of `nn.RNN` and a corridor of seventy steps.

Source: ikostrikov/pytorch-a2c-ppo-acktr-gail issue 15, on recurrent policies (kind: long episodes).
The sign at the entrance decides the action and the value at the end; the gradient vanishes.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.doctor.field_case import Case, batched, fit


class ActorCritic(nn.Module):
    def __init__(self, plain: bool) -> None:
        super().__init__()
        kind = nn.RNN if plain else nn.GRU
        self.encoder = nn.Linear(4, 16)
        self.rnn = kind(16, 32, batch_first=True)
        self.actor = nn.Linear(32, 2)
        self.critic = nn.Linear(32, 1)

    def forward(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        output, _ = self.rnn(torch.tanh(self.encoder(observations)))
        return self.actor(output[:, -1]), self.critic(output[:, -1])[:, 0]


Batch = tuple[Tensor, Tensor, Tensor]


def corridors(count: int, steps: int = 70) -> Batch:
    action = torch.randint(2, (count,))
    observations = torch.zeros(count, steps, 4)
    observations[..., 3] = 0.3 * torch.randn(count, steps)
    observations[torch.arange(count), 0, action] = 2
    observations[:, -1, 2] = 1
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
        ActorCritic(plain=faulty),
        train,
        loss,
        lambda model: fit(model, train, loss, epochs=12, lr=0.006),
        lambda model: score(model, test),
        chance=0.5,
        good=0.9,
        accept={"right": {"vanishing gradient"}, "partly": {"forgetting"}}
        if faulty
        else {"healthy"},
    )
