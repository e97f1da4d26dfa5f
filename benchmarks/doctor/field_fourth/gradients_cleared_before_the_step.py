"""The gradients are cleared between the backward pass and the step, so no weight changes.

Source: velog.io, rhss10, on where optimizer.zero_grad() may stand; kind: the order of the three
calls, as in GitHub rll/deepul#12.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.doctor.field_case import Case, accuracy, batched, cross_entropy

WORDS, LENGTH = 30, 14


class WordModel(nn.Module):
    """An LSTM that predicts the next word."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(WORDS, 20)
        self.lstm = nn.LSTM(20, 40, batch_first=True)
        self.linear = nn.Linear(40, WORDS)

    def forward(self, words: Tensor) -> Tensor:
        out, _ = self.lstm(self.embedding(words))
        return self.linear(out)


def sentences(count: int) -> Tensor:
    """Return sentences of a grammar: one word in ten is drawn, the others follow from the last."""
    following = torch.randperm(WORDS)
    words = [torch.randint(WORDS, (count,))]
    for _ in range(LENGTH):
        drawn = torch.randint(WORDS, (count,))
        words.append(torch.where(torch.rand(count) < 0.1, drawn, following[words[-1]]))
    return torch.stack(words, dim=1)


def make(faulty: bool) -> Case:
    """Return the program; the right one clears before the backward pass."""
    text = sentences(1280)
    batches = batched(text[:, :-1], text[:, 1:])
    train, test = batches[:32], batches[32:]

    def training_step(model: nn.Module, optimizer: torch.optim.Optimizer, batch: Any) -> Tensor:
        words, following = batch
        loss = F.cross_entropy(model(words).transpose(1, 2), following)
        if faulty:
            loss.backward()
            optimizer.zero_grad()
        else:
            optimizer.zero_grad()
            loss.backward()
        optimizer.step()
        return loss

    def optimizer_of(model: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.Adam(model.parameters(), lr=0.01)

    def train_it(model: nn.Module) -> None:
        optimizer = optimizer_of(model)
        for _ in range(10):
            for i in torch.randperm(len(train)).tolist():
                training_step(model, optimizer, train[i])

    return Case(
        WordModel(),
        train,
        cross_entropy,
        train_it,
        lambda model: accuracy(model, test),
        chance=1 / WORDS,
        good=0.85,
        accept={"right": {"not trained"}, "partly": {"gradient cut", "step size", "undertrained"}}
        if faulty
        else {"healthy", "no long dependency"},
        options=lambda _: {"training_step": training_step, "optimizer": optimizer_of},
    )
