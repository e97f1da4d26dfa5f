"""A recurrent policy multiplies its state by `done` in place of `1 - done` before each step.

Source: ikostrikov/pytorch-a2c-ppo-acktr-gail issue 193, on what the masks of the hidden states do.
So the state is erased at every step but the first of an episode. Data: mazes with a sign at the
entrance; the action at a junction is the one that the sign of this episode showed.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, accuracy, batched, cross_entropy, fit

STEPS = 36


class Policy(nn.Module):
    def __init__(self, invert: bool) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(5, 24), nn.ReLU())
        self.cell = nn.GRUCell(24, 32)
        self.actor = nn.Linear(32, 3)
        self.invert = invert

    def forward(self, observations: Tensor, done: Tensor) -> Tensor:
        keep = done if self.invert else 1 - done
        state = observations.new_zeros(len(observations), 32)
        logits = []
        for t in range(observations.shape[1]):
            state = self.cell(self.encoder(observations[:, t]), state * keep[:, t, None])
            logits.append(self.actor(state))
        return torch.stack(logits, dim=1)


def mazes(count: int) -> tuple[Tensor, Tensor, Tensor]:
    observations = 0.2 * torch.randn(count, STEPS, 5)
    done = torch.zeros(count, STEPS)
    actions = torch.full((count, STEPS), -100)
    for start in (0, 18):
        sign = torch.randint(3, (count,))
        done[:, start] = 1
        observations[torch.arange(count), start, sign] += 2
        for junction in (start + 9, start + 15):
            observations[:, junction, 4] += 2
            actions[:, junction] = sign
    return observations, done, actions


def make(faulty: bool) -> Case:
    batches = batched(*mazes(32 * 34))
    train, test = batches[:28], batches[28:]
    return Case(
        Policy(invert=faulty),
        train,
        cross_entropy,
        lambda model: fit(model, train, cross_entropy, epochs=8, lr=0.005),
        lambda model: accuracy(model, test),
        chance=1 / 3,
        good=0.9,
        accept={"right": {"gradient cut", "forgetting"}, "partly": set()}
        if faulty
        else {"healthy"},
    )
