"""The numbers of the words go into the LSTM as floats, without an embedding.

Kind: an LSTM on raw word indices, as in many questions on the IMDB data; see
GitHub keras-team/keras#274 for numbers that are taken for quantities.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, classifier

WORDS, LENGTH, CLASSES = 2000, 16, 4


class Newswire(nn.Module):
    """An LSTM over the words of a report; the last output gives the class."""

    def __init__(self, embed: bool) -> None:
        super().__init__()
        self.embedding = nn.Embedding(WORDS, 16) if embed else None
        self.lstm = nn.LSTM(16 if embed else 1, 32, batch_first=True)
        self.dense = nn.Linear(32, CLASSES)

    def forward(self, words: Tensor) -> Tensor:
        x = words.float().unsqueeze(-1) if self.embedding is None else self.embedding(words)
        out, _ = self.lstm(x)
        return self.dense(out[:, -1])


def reports(count: int) -> tuple[Tensor, Tensor]:
    """Return reports with four words of one of four lists of eight, and the list."""
    lists = torch.randperm(WORDS)[: 8 * CLASSES].view(CLASSES, 8)
    kind = torch.randint(CLASSES, (count,))
    words = torch.randint(WORDS, (count, LENGTH))
    places = torch.rand(count, LENGTH).argsort(1)[:, :4]
    drawn = lists[kind].gather(1, torch.randint(8, (count, 4)))
    return words.scatter(1, places, drawn), kind


def make(faulty: bool) -> Case:
    """Return the program; the faulty one has no embedding."""
    batches = batched(*reports(1536))
    return classifier(
        Newswire(embed=not faulty),
        batches[:40],
        batches[40:],
        {"right": {"inputs not scaled", "saturated"}, "partly": set()}
        if faulty
        else {"healthy", "no long dependency"},
        epochs=10,
        classes=CLASSES,
    )
