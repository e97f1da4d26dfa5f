"""A sentiment classifier applies softmax to its one score, which gives 1 for every review.

Source: GitHub keras-team/keras#1261, "LSTM always return 1 values".
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.doctor.field_case import Case, answers, batched, fit

WORDS, LENGTH = 50, 20


class Sentiment(nn.Module):
    """An LSTM over the words of a review with one output unit."""

    def __init__(self, activation: nn.Module) -> None:
        super().__init__()
        self.embedding = nn.Embedding(WORDS, 12)
        self.lstm = nn.LSTM(12, 24, batch_first=True)
        self.dense = nn.Linear(24, 1)
        self.activation = activation

    def forward(self, review: Tensor) -> Tensor:
        out, _ = self.lstm(self.embedding(review))
        return self.activation(self.dense(out[:, -1]))


def loss_fn(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """The binary cross-entropy of the probability that a review is positive."""
    review, positive = batch
    return F.binary_cross_entropy(model(review), positive)


def reviews(count: int) -> tuple[Tensor, Tensor]:
    """Return reviews with two words of praise (0 to 4) or of blame (5 to 9), and which it is."""
    positive = torch.randint(2, (count, 1))
    review = torch.randint(10, WORDS, (count, LENGTH))
    places = torch.rand(count, LENGTH).argsort(1)[:, :2]
    return review.scatter(1, places, torch.randint(5, (count, 2)) + 5 * (1 - positive)), positive


def make(faulty: bool) -> Case:
    """Return the program; the faulty one has softmax in place of the sigmoid."""
    review, positive = reviews(1280)
    batches = batched(review, positive.float())
    train, test = batches[:32], batches[32:]

    def score(model: nn.Module) -> float:
        hits = [((p > 0.5) == (y > 0.5)).float() for p, y in answers(model, test)]
        return float(torch.cat(hits).mean())

    return Case(
        Sentiment(nn.Softmax(dim=1) if faulty else nn.Sigmoid()),
        train,
        loss_fn,
        lambda model: fit(model, train, loss_fn, epochs=12),
        score,
        chance=0.5,
        good=0.9,
        accept={
            "right": {"answers do not fit the loss"},
            "partly": {"gradient cut", "not trained"},
        }
        if faulty
        else {"healthy", "no long dependency"},
    )
