"""A long episode is read in chunks, and the state of a chunk is not passed to the next.

Source: GitHub thu-ml/tianshou#584, "question about DRQN" (the state is not used in training).
"""

import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.doctor.field_case import Case, batched


class RecurrentQ(nn.Module):
    """A recurrent Q network that reads observations in chunks, as an actor does."""

    def __init__(self, obs_dim=5, hidden=24, n_actions=3, keep_state=True):
        super().__init__()
        self.keep_state = keep_state
        self.encoder = nn.Sequential(nn.Linear(obs_dim, hidden), nn.ReLU())
        self.lstm = nn.LSTM(hidden, hidden, batch_first=True)
        self.q = nn.Linear(hidden, n_actions)

    def act(self, obs, state=None):
        out, state = self.lstm(self.encoder(obs), state)
        return self.q(out), state

    def forward(self, episode, chunk=5):
        values, state = [], None
        for obs in episode.split(chunk, dim=1):
            value, new_state = self.act(obs, state)
            if self.keep_state:
                state = new_state
            values.append(value)
        return torch.cat(values, dim=1)


def td_loss(model, batch):
    """The Huber loss of the values of the actions taken."""
    obs, actions, returns = batch
    q = model(obs).gather(2, actions.unsqueeze(2)).squeeze(2)
    return F.smooth_l1_loss(q, returns)


def episodes(count, steps=20):
    """Return episodes of a cue at the start; from step 8 on the cued action is rewarded."""
    obs = 0.2 * torch.randn(count, steps, 5)
    cue = torch.randint(3, (count,))
    obs[torch.arange(count), torch.randint(3, (count,)), cue] += 2
    obs[:, 8:, 4] += 1
    actions = torch.randint(3, (count, steps))
    returns = ((actions == cue[:, None]) & (torch.arange(steps) >= 8)).float()
    return obs, actions, returns


def make(faulty: bool) -> Case:
    """Return the program; each chunk of the faulty one starts from zero."""
    batches, held_out = batched(*episodes(40 * 32)), batched(*episodes(512))

    def fit(model):
        optimizer = torch.optim.Adam(model.parameters(), lr=0.005)
        for _ in range(20):
            for batch in batches:
                optimizer.zero_grad()
                td_loss(model, batch).backward()
                nn.utils.clip_grad_norm_(model.parameters(), 10)
                optimizer.step()

    def score(model):
        """The variance of the late returns that the values explain."""
        residual = total = 0.0
        with torch.no_grad():
            for obs, actions, returns in held_out:
                q = model(obs).gather(2, actions.unsqueeze(2)).squeeze(2)[:, 8:]
                residual += float((q - returns[:, 8:]).square().mean())
                total += float(returns[:, 8:].var(unbiased=False))
        return 1 - residual / total

    return Case(
        RecurrentQ(keep_state=not faulty),
        batches,
        td_loss,
        fit,
        score,
        chance=0.0,
        good=0.8,
        accept={"right": {"forgetting"}, "partly": {"gradient cut"}} if faulty else {"healthy"},
    )
