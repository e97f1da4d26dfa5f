"""A multi-task network is trained by Adam with a weight decay of 0.3.

Source: GitHub OverLordGoldDragon/see-rnn#10, "Reproducing a stack overflow example", and Stack
Overflow 48714407, "RNN regularization: which component to regularize?".
"""

import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.doctor.field_case import Case


class MultiTaskLSTM(nn.Module):
    """One LSTM with a head for the kind of an event and one for its level."""

    def __init__(self, n_features=3, hidden=24):
        super().__init__()
        self.lstm = nn.LSTM(n_features, hidden, batch_first=True)
        self.heads = nn.ModuleDict({"kind": nn.Linear(hidden, 2), "level": nn.Linear(hidden, 1)})

    def forward(self, batch):
        _, (h_n, _) = self.lstm(batch["signal"])
        return {name: head(h_n[-1]) for name, head in self.heads.items()}


def loss_fn(model, batch):
    """The sum of the losses of both tasks."""
    out = model(batch)
    kind = F.cross_entropy(out["kind"], batch["kind"])
    return kind + F.mse_loss(out["level"].squeeze(1), batch["level"])


def events(count, steps=14):
    """Return noisy signals with an event at one of the first four steps."""
    signal = 0.3 * torch.randn(count, steps, 3)
    kind, level = torch.randint(2, (count,)), torch.randn(count)
    at = torch.randint(4, (count,))
    signal[torch.arange(count), at] = torch.stack(
        [torch.full((count,), 2.0), 2.0 * kind - 1, level], 1
    )
    return {"signal": signal, "kind": kind, "level": level}


def make(faulty: bool) -> Case:
    """Return the program; the decay of the faulty one outweighs the gradient."""
    batches, held_out = [events(32) for _ in range(32)], [events(256)]

    def optimizer_of(model):
        return torch.optim.Adam(model.parameters(), lr=0.01, weight_decay=0.3 if faulty else 0)

    def training_step(model, optimizer, batch):
        optimizer.zero_grad()
        loss_fn(model, batch).backward()
        optimizer.step()

    def fit(model):
        optimizer = optimizer_of(model)
        for _ in range(30):
            for batch in batches:
                training_step(model, optimizer, batch)

    def score(model):
        with torch.no_grad():
            outs = [(model(b)["kind"].argmax(1) == b["kind"]).float().mean() for b in held_out]
        return float(sum(outs) / len(outs))

    return Case(
        MultiTaskLSTM(),
        batches,
        loss_fn,
        fit,
        score,
        chance=0.5,
        good=0.9,
        accept={"right": {"weight decay"}, "partly": set()} if faulty else {"healthy"},
        options=lambda model: {
            "training_step": training_step,
            "optimizer": optimizer_of(model),
        },
    )
