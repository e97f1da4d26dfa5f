"""Minus the distance of two sentences is the logit of a pair: it never exceeds zero.

Source: GitHub keras-team/keras-io#2261 (a sigmoid and the distance of a siamese network).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.doctor.field_case import Case, answers, batched, fit

WORDS, LENGTH, SUBJECTS = 60, 12, 4


class SiameseLSTM(nn.Module):
    """One LSTM for both sentences, and the logit that they have the same subject."""

    def __init__(self, threshold: bool) -> None:
        super().__init__()
        self.embed = nn.Embedding(WORDS, 16)
        self.lstm = nn.LSTM(16, 24, batch_first=True)
        self.scale = nn.Parameter(torch.tensor(4.0)) if threshold else None
        self.margin = nn.Parameter(torch.tensor(1.0)) if threshold else None

    def encode(self, sentence: Tensor) -> Tensor:
        """The final state of the LSTM."""
        _, (h, _) = self.lstm(self.embed(sentence))
        return h[-1]

    def forward(self, one: Tensor, other: Tensor) -> Tensor:
        distance = F.pairwise_distance(self.encode(one), self.encode(other))
        if self.scale is None or self.margin is None:
            return -distance
        return self.scale * (self.margin - distance)


def loss_fn(model: nn.Module, batch: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """The binary cross-entropy of whether the subject is the same."""
    one, other, same = batch
    return F.binary_cross_entropy_with_logits(model(one, other), same)


def sentences(subject: Tensor) -> Tensor:
    """Return sentences with three words of their subject, of six for each subject."""
    count = len(subject)
    words = torch.randint(6 * SUBJECTS, WORDS, (count, LENGTH))
    places = torch.rand(count, LENGTH).argsort(1)[:, :3]
    return words.scatter(1, places, 6 * subject[:, None] + torch.randint(6, (count, 3)))


def make(faulty: bool) -> Case:
    """Return the program; the faulty one has no threshold for the distance."""
    subject, other = torch.randint(SUBJECTS, (2, 1280))
    other = torch.where(torch.rand(1280) < 0.4, subject, other)
    same = (subject == other).float()
    batches = batched(sentences(subject), sentences(other), same)
    train, test = batches[:32], batches[32:]

    def score(model: nn.Module) -> float:
        hits = [((logit > 0) == (same > 0.5)).float() for logit, same in answers(model, test)]
        return float(torch.cat(hits).mean())

    return Case(
        SiameseLSTM(threshold=not faulty),
        train,
        loss_fn,
        lambda model: fit(model, train, loss_fn, epochs=16),
        score,
        chance=0.5,
        good=0.9,
        accept={"right": {"answers do not fit the loss"}, "partly": set()}
        if faulty
        else {"healthy", "no long dependency"},
    )
