"""The scores of the tags are viewed as (batch, tags, words) for the loss and not transposed.

Source: GitHub weirme/FCSN#32, "A mistake in train.py line 48", and voiler/IMPALA#3.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.doctor.field_case import Case, accuracy, batched, fit

TAGS, WORDS, LENGTH = 5, 30, 12


class Tagger(nn.Module):
    """A bidirectional LSTM with a score for each tag at each word."""

    def __init__(self) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(WORDS, 16)
        self.lstm = nn.LSTM(16, 20, batch_first=True, bidirectional=True)
        self.hidden2tag = nn.Linear(40, TAGS)

    def forward(self, sentence: Tensor) -> Tensor:
        out, _ = self.lstm(self.word_embeddings(sentence))
        return self.hidden2tag(out)


def viewed(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """The cross-entropy with the scores viewed in the shape that the loss wants."""
    sentence, tags = batch
    scores = model(sentence)
    return F.cross_entropy(scores.view(len(sentence), TAGS, -1), tags)


def transposed(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """The cross-entropy with the axes of the scores transposed."""
    sentence, tags = batch
    return F.cross_entropy(model(sentence).transpose(1, 2), tags)


def make(faulty: bool) -> Case:
    """Return the program; the tag of a word is the sum of its kind and the previous word's."""
    sentence = torch.randint(WORDS, (1280, LENGTH))
    kind = sentence % TAGS
    previous = torch.cat([torch.zeros(len(kind), 1, dtype=torch.long), kind[:, :-1]], dim=1)
    batches = batched(sentence, (kind + previous) % TAGS)
    train, test = batches[:32], batches[32:]
    loss = viewed if faulty else transposed
    return Case(
        Tagger(),
        train,
        loss,
        lambda model: fit(model, train, loss, epochs=12, lr=0.02),
        lambda model: accuracy(model, test),
        chance=1 / TAGS,
        good=0.9,
        accept={
            "right": {"target meets other answers", "answer at the wrong step"},
            "partly": {"answers do not fit the loss"},
        }
        if faulty
        else {"healthy", "no long dependency"},
    )
