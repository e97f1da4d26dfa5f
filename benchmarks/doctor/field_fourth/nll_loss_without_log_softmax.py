"""A topic classifier gives raw scores to the negative log-likelihood loss.

Source: GitHub mjc92/GetToThePoint#8, "Wrong loss criterion", and skorch-dev/skorch#519.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.doctor.field_case import Case, accuracy, batched, fit

TOPICS, WORDS, LENGTH = 4, 80, 24


class TopicClassifier(nn.Module):
    """A GRU over the words of a text; its last state gives the topic."""

    def __init__(self, log_probabilities: bool) -> None:
        super().__init__()
        self.embed = nn.Embedding(WORDS, 16)
        self.gru = nn.GRU(16, 32, batch_first=True)
        self.fc = nn.Linear(32, TOPICS)
        self.log_probabilities = log_probabilities

    def forward(self, text: Tensor) -> Tensor:
        _, h = self.gru(self.embed(text))
        scores = self.fc(h[-1])
        return F.log_softmax(scores, dim=1) if self.log_probabilities else scores


def nll(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """The negative log-likelihood of the topics."""
    text, topic = batch
    return F.nll_loss(model(text), topic)


def texts(count: int) -> tuple[Tensor, Tensor]:
    """Return texts, and their topics, which are 0 more often than 3.

    The first 40 words are ten for each topic; three of a text's topic stand anywhere in it.
    """
    shares = torch.tensor([0.4, 0.3, 0.2, 0.1])
    topic = torch.multinomial(shares, count, replacement=True)
    text = torch.randint(40, WORDS, (count, LENGTH))
    places = torch.rand(count, LENGTH).argsort(1)[:, :3]
    return text.scatter(1, places, topic[:, None] * 10 + torch.randint(10, (count, 3))), topic


def make(faulty: bool) -> Case:
    """Return the program; the faulty one has no log-softmax before the loss."""
    batches = batched(*texts(1280))
    train, test = batches[:32], batches[32:]
    return Case(
        TopicClassifier(log_probabilities=not faulty),
        train,
        nll,
        lambda model: fit(model, train, nll, epochs=10),
        lambda model: accuracy(model, test),
        chance=0.4,
        good=0.9,
        accept={"right": {"answers do not fit the loss"}, "partly": set()}
        if faulty
        else {"healthy", "no long dependency"},
    )
