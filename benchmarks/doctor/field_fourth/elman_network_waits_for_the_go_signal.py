"""A plain tanh network is to act on a cue of 120 steps before, when the go signal comes.

Source: kind: "my RNN works with short delays only"
Data: a cue of one step, a delay with noise, a go signal at the end: reach left or right.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, classifier

DELAY, UNITS = 120, 20


class Reacher(nn.Module):
    """A recurrent layer over an agent's observations; the action follows the go signal."""

    def __init__(self, gated: bool) -> None:
        super().__init__()
        layer = nn.GRU if gated else nn.RNN
        self.rnn = layer(3, UNITS, batch_first=True)
        self.action = nn.Linear(UNITS, 2)
        if gated:
            with torch.no_grad():
                biases = self.rnn.get_parameter("bias_ih_l0")
                biases[UNITS : 2 * UNITS] = 5.0  # the update gate keeps

    def forward(self, observations: Tensor) -> Tensor:
        return self.action(self.rnn(observations)[0][:, -1])


def trials(count: int) -> tuple[Tensor, Tensor]:
    side = torch.randint(2, (count,))
    observations = 0.5 * torch.randn(count, DELAY + 2, 3)
    observations[torch.arange(count), 0, side] = 2.0
    observations[:, -1, 2] = 2.0
    return observations, side


def make(faulty: bool) -> Case:
    batches = batched(*trials(512 + 128))
    return classifier(
        Reacher(gated=not faulty),
        batches[:16],
        batches[16:],
        {"right": {"vanishing gradient", "forgetting"}, "partly": {"undertrained"}}
        if faulty
        else {"healthy"},
        epochs=10,
        lr=0.005,
    )
