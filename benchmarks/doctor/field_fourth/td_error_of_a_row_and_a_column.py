"""The critic's values have shape (batch, 1), the temporal-difference targets (batch,).

Source: https://github.com/thu-ml/tianshou/issues/43 and
https://github.com/sunwuzhou03/reinforcement-learning-lab/issues/1
Data: an agent saw at the first step of an episode which arm pays; the reward is the arm's, plus the
discounted value of the last state.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, forecaster

GAMMA = 0.9


class RecurrentCritic(nn.Module):
    """An LSTM over the observations of an episode, and the value of its last state."""

    def __init__(self, observations: int = 4, hidden: int = 24) -> None:
        super().__init__()
        self.lstm = nn.LSTM(observations, hidden, batch_first=True)
        self.value = nn.Linear(hidden, 1)

    def forward(self, observations: Tensor, *_: Tensor) -> Tensor:
        return self.value(self.lstm(observations)[0][:, -1])


def episodes(count: int, steps: int = 15) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    observations = 0.2 * torch.randn(count, steps, 4)
    pays = torch.randint(2, (count,)) * 2.0 - 1
    observations[:, 0, 0] = pays
    following = torch.randn(count) * 0.1
    done = (torch.rand(count) < 0.5).float()
    return observations, following, done, pays + GAMMA * (1 - done) * following


def make(faulty: bool) -> Case:
    def td_loss(model: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
        observations, following, done, returns = batch
        reward = returns - GAMMA * (1 - done) * following
        target = reward + GAMMA * (1 - done) * following
        value = model(observations)
        if not faulty:
            value = value.squeeze(-1)
        return (value - target).pow(2).mean()

    batches = batched(*episodes(768 + 256))
    return forecaster(
        RecurrentCritic(),
        batches[:24],
        batches[24:],
        {"right": {"target meets other answers"}, "partly": {"answers do not fit the loss"}}
        if faulty
        else {"healthy", "no long dependency"},
        epochs=20,
        loss=td_loss,
    )
