"""The probabilities of several labels are rounded to 0 and 1 before the loss.

Source: GitHub qubvel-org/segmentation_models.pytorch#611, "Threshold for Dice loss".
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.doctor.field_case import Case, answers, batched, fit

WORDS, LENGTH, LABELS = 50, 15, 4


class LabelModel(nn.Module):
    """An LSTM over the words of a post with a probability for each label."""

    def __init__(self, rounded: bool) -> None:
        super().__init__()
        self.embedding = nn.Embedding(WORDS, 16)
        self.lstm = nn.LSTM(16, 32, batch_first=True)
        self.classifier = nn.Linear(32, LABELS)
        self.rounded = rounded

    def forward(self, post: Tensor) -> Tensor:
        _, (hidden, _) = self.lstm(self.embedding(post))
        probabilities = torch.sigmoid(self.classifier(hidden[-1]))
        return torch.round(probabilities) if self.rounded else probabilities


def loss_fn(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """The binary cross-entropy of all labels."""
    post, labels = batch
    return F.binary_cross_entropy(model(post), labels)


def posts(count: int) -> tuple[Tensor, Tensor]:
    """Return posts and their labels; a word of each label that holds stands in the post."""
    labels = torch.randint(2, (count, LABELS))
    words = torch.randint(4 * LABELS, WORDS, (count, LENGTH))
    places = torch.rand(count, LENGTH).argsort(1)[:, :LABELS]
    shown = 4 * torch.arange(LABELS) + torch.randint(4, (count, LABELS))
    kept = torch.where(labels > 0, shown, words[:, :LABELS])
    return words.scatter(1, places, kept), labels.float()


def make(faulty: bool) -> Case:
    """Return the program; the faulty one rounds inside the model."""
    batches = batched(*posts(1280))
    train, test = batches[:32], batches[32:]

    def score(model: nn.Module) -> float:
        hits = [((p > 0.5) == (y > 0.5)).float() for p, y in answers(model, test)]
        return float(torch.cat(hits).mean())

    return Case(
        LabelModel(rounded=faulty),
        train,
        loss_fn,
        lambda model: fit(model, train, loss_fn, epochs=16),
        score,
        chance=0.5,
        good=0.9,
        accept={
            "right": {"gradient cut"},
            "partly": {"not trained", "answers do not fit the loss"},
        }
        if faulty
        else {"healthy", "no long dependency"},
    )
