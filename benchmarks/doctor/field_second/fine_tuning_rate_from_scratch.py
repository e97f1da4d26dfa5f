"""A language model is trained from scratch with the step size of fine-tuning, 2e-5.

Source: vanzytay/pytorch_sentiment_rnn issue 3, "accuracy unchanged while training"; kind: a step
size taken over from a transformer.
Data: Python's own reference, as letters.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.doctor.field_case import Case, answers, cross_entropy, prose

STEPS, SIZE, EPOCHS = 25, 32, 8


class CharacterModel(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(28, 24)
        self.rnn = nn.LSTM(24, 48, batch_first=True)
        self.out = nn.Linear(48, 28)

    def forward(self, text: Tensor) -> Tensor:
        return self.out(self.rnn(self.embedding(text))[0])


def nats(model: nn.Module, batches: list[tuple[Tensor, Tensor]]) -> float:
    """Return the cross-entropy of a character."""
    losses = [F.cross_entropy(a.flatten(0, 1), y.flatten()) for a, y in answers(model, batches)]
    return float(sum(losses)) / len(losses)


def training_step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    cross_entropy(model, batch).backward()
    optimizer.step()


def make(faulty: bool) -> Case:
    text = prose((STEPS + 1) * SIZE * 52).view(-1, STEPS + 1)
    text = text[torch.randperm(len(text))]
    batches = [(x[:, :-1], x[:, 1:]) for x in text.split(SIZE)]
    train, test = batches[:44], batches[44:]

    def adam(model: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.Adam(model.parameters(), lr=2e-5 if faulty else 1e-2)

    def fit(model: nn.Module) -> None:
        optimizer = adam(model)
        for _ in range(EPOCHS):
            for batch in train:
                training_step(model, batch, optimizer)

    return Case(
        CharacterModel(),
        train,
        cross_entropy,
        fit,
        lambda model: nats(model, test),
        chance=2.85,
        good=2.1,
        accept={"right": {"step size", "undertrained"}, "partly": set()}
        if faulty
        else {"healthy", "no long dependency"},
        options=lambda model: {"training_step": training_step, "optimizer": adam(model)},
    )
