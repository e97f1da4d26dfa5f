"""The loss sums over batch and time, and SGD keeps the step size that suits a mean.

Source: AlexeyAB/darknet issue 8276, "the loss is increasing"; kind: `reduction="sum"` with a batch.
The gradient is 800 times as large as that of the mean.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.doctor.field_case import Case, accuracy, batched

EPOCHS, WORDS, STEPS = 14, 18, 25


class TopicTagger(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(WORDS, 10)
        self.rnn = nn.LSTM(10, 24, batch_first=True)
        self.out = nn.Linear(24, 4)

    def forward(self, words: Tensor) -> Tensor:
        return self.out(self.rnn(self.embedding(words))[0])


def documents(count: int) -> tuple[Tensor, Tensor]:
    """Return words, of which four open a topic, and the topic that each word belongs to."""
    words, opens = torch.randint(4, WORDS, (count, STEPS)), torch.rand(count, STEPS) < 0.12
    opens[:, 0] = True
    words[opens] = torch.randint(4, (int(opens.sum()),))
    return words, words.gather(1, torch.where(opens, torch.arange(STEPS), 0).cummax(1).values)


def sgd(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.3, momentum=0.9)


def make(faulty: bool) -> Case:
    batches = batched(*documents(32 * 40))
    train, test = batches[:32], batches[32:]

    def loss(model: nn.Module, batch: Any) -> Tensor:
        words, topics = batch
        reduction = "sum" if faulty else "mean"
        return F.cross_entropy(model(words).flatten(0, 1), topics.flatten(), reduction=reduction)

    def training_step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer) -> None:
        optimizer.zero_grad()
        loss(model, batch).backward()
        optimizer.step()

    def fit(model: nn.Module) -> None:
        optimizer = sgd(model)
        for _ in range(EPOCHS):
            for batch in train:
                training_step(model, batch, optimizer)

    return Case(
        TopicTagger(),
        train,
        loss,
        fit,
        lambda model: accuracy(model, test),
        chance=0.25,
        good=0.9,
        accept={"right": {"step size"}, "partly": {"exploding gradient", "saturated"}}
        if faulty
        else {"healthy", "no long dependency"},
        options=lambda model: {"training_step": training_step, "optimizer": sgd(model)},
    )
