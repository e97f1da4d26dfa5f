"""A recurrent Q-network gets each observation of a replayed episode alone, and no hidden state.

Source: https://github.com/thu-ml/tianshou/issues/584
Data: the first observation of an episode names the rewarded action; noise follows.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.doctor.field_case import Case, batched, cued, fit


class RecurrentQ(nn.Module):
    """A Q-network with a GRU: (observations, state) to (values of the actions, state)."""

    def __init__(self, observations: int = 4, actions: int = 3, hidden: int = 24) -> None:
        super().__init__()
        self.encoder = nn.Linear(observations, hidden)
        self.gru = nn.GRU(hidden, hidden, batch_first=True)
        self.q = nn.Linear(hidden, actions)

    def forward(self, observations, state=None):
        out, state = self.gru(self.encoder(observations).relu(), state)
        return self.q(out), state


def make(faulty: bool) -> Case:
    def values(model: nn.Module, observations: Tensor) -> Tensor:
        """The action values at the last step of the episodes."""
        state, q = None, torch.empty(0)
        for t in range(observations.size(1)):
            if faulty:
                q, state = model(observations[:, t : t + 1])
            else:
                q, state = model(observations[:, t : t + 1], state)
        return q[:, -1]

    def td_loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        observations, rewarded = batch
        return F.mse_loss(values(model, observations), F.one_hot(rewarded, 3).float())

    def score(model: nn.Module) -> float:
        with torch.no_grad():
            hits = [(values(model, o).argmax(-1) == r).float() for o, r in test]
        return float(torch.cat(hits).mean())

    batches = batched(*cued(640 + 256, steps=10, classes=3, noise=0.3))
    train, test = batches[:20], batches[20:]
    return Case(
        RecurrentQ(),
        train,
        td_loss,
        lambda model: fit(model, train, td_loss, epochs=16, lr=0.02),
        score,
        chance=1 / 3,
        good=0.9,
        accept={
            "right": {"one-step sequences"},
            "partly": {"gradient cut", "forgetting"},
        }
        if faulty
        else {"healthy", "no long dependency"},
    )
