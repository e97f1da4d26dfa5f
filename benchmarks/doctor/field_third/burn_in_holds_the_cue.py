"""A recurrent Q-network runs its burn-in under `no_grad`, and the cue stands in the burn-in.

Source: danijar/dreamer issue 24, on stored states and burn-in; discuss.pytorch.org 31023, a
recurrent Q-network that does not learn. Data: a corridor; the cue names the arm with the reward.
"""

from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, fit


class RecurrentQ(nn.Module):
    def __init__(self, burn_in: int) -> None:
        super().__init__()
        self.gru = nn.GRU(5, 24, batch_first=True)
        self.q = nn.Linear(24, 3)
        self.burn_in = burn_in

    def forward(self, observations: Tensor) -> Tensor:
        state = None
        if self.burn_in:
            with torch.no_grad():
                _, state = self.gru(observations[:, : self.burn_in])
        out, _ = self.gru(observations[:, self.burn_in :], state)
        return self.q(out[:, -1])


def episodes(count: int, steps: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    observations = 0.4 * torch.randn(count, steps, 5)
    arm, action = torch.randint(3, (count,)), torch.randint(3, (count,))
    observations[torch.arange(count), 1, arm] += 3
    return observations, action, (arm == action).float(), arm


def loss(model: nn.Module, batch: Any) -> Tensor:
    observations, action, reward = batch
    q = model(observations).gather(1, action[:, None])[:, 0]
    return (q - reward).square().mean()


def make(faulty: bool) -> Case:
    observations, action, reward, arm = episodes(32 * 48, 24)
    train = batched(observations, action, reward)[:40]
    unseen, arms = observations[32 * 40 :], arm[32 * 40 :]

    def greedy_reward(model: nn.Module) -> float:
        with torch.no_grad():
            return (model(unseen).argmax(1) == arms).float().mean().item()

    return Case(
        RecurrentQ(18 if faulty else 0),
        train,
        loss,
        lambda model: fit(model, train, loss, epochs=12),
        greedy_reward,
        chance=1 / 3,
        good=0.9,
        accept={"right": {"gradient cut"}, "partly": {"forgetting", "vanishing gradient"}}
        if faulty
        else {"healthy"},
    )
