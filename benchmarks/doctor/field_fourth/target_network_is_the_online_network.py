"""The target encoder is the online encoder itself, not a copy, and its parameters are frozen.

Source: kind: deepcopy forgotten for the target network; see
https://github.com/philtabor/Multi-Agent-Deep-Deterministic-Policy-Gradients/issues/10
Data: the colour at the start of a corridor decides which of four doors pays.
"""

import copy

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, classifier, cued


class Encoder(nn.Module):
    """The state of an agent after its observations."""

    def __init__(self, observations: int = 4, hidden: int = 24) -> None:
        super().__init__()
        self.rnn = nn.RNN(observations, hidden, batch_first=True)

    def forward(self, observations: Tensor) -> Tensor:
        return self.rnn(observations)[0][:, -1]


class Agent(nn.Module):
    """Online and target encoder, and the head of the four doors."""

    def __init__(self, share: bool) -> None:
        super().__init__()
        self.online = Encoder()
        self.target = self.online if share else copy.deepcopy(self.online)
        for parameter in self.target.parameters():
            parameter.requires_grad = False
        self.head = nn.Linear(24, 4)

    def forward(self, observations: Tensor) -> Tensor:
        return self.head(self.online(observations))

    def bootstrap(self, observations: Tensor) -> Tensor:
        """The values that the targets of Q-learning are made of."""
        with torch.no_grad():
            return self.head(self.target(observations))


def make(faulty: bool) -> Case:
    batches = batched(*cued(768 + 256, steps=14, classes=4, noise=0.6))
    return classifier(
        Agent(share=faulty),
        batches[:24],
        batches[24:],
        {"right": {"not trained"}, "partly": {"gradient cut", "forgetting"}}
        if faulty
        else {"healthy"},
        epochs=15,
        classes=4,
    )
