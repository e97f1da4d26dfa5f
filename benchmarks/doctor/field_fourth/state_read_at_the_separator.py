"""Premise and hypothesis go through one LSTM, and the state is read at the separator.

Kind: the index of the first special token in place of the last; GitHub keitakurita/
practical-torchtext#5 and shyamupa/snli-entailment#2 are threads on which state is read.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, classifier

SEPARATOR, WORDS, HALF, SUBJECTS = 0, 40, 9, 2


class Entailment(nn.Module):
    """An LSTM over premise, separator, hypothesis and separator."""

    def __init__(self, first: bool) -> None:
        super().__init__()
        self.embed = nn.Embedding(WORDS, 16)
        self.lstm = nn.LSTM(16, 40, batch_first=True)
        self.out = nn.Linear(40, 4)
        self.first = first

    def forward(self, pair: Tensor) -> Tensor:
        output, _ = self.lstm(self.embed(pair))
        steps = torch.arange(pair.shape[1]) * (pair == SEPARATOR)
        steps = steps.masked_fill(pair != SEPARATOR, pair.shape[1])
        place = steps.min(dim=1).values if self.first else pair.shape[1] - 1
        return self.out(output[torch.arange(len(pair)), place])


def pairs(count: int) -> tuple[Tensor, Tensor]:
    """Return pairs of sentences, and one of four classes: the subjects of the two, of two each.

    Of each sentence, two words are of its subject: 1 to 5, or 6 to 10.
    """
    subjects = torch.randint(SUBJECTS, (count, 2))
    parts = []
    for i in range(2):
        words = torch.randint(11, WORDS, (count, HALF))
        places = torch.rand(count, HALF).argsort(1)[:, :2]
        shown = 1 + 5 * subjects[:, i : i + 1] + torch.randint(5, (count, 2))
        parts += [words.scatter(1, places, shown), torch.full((count, 1), SEPARATOR)]
    return torch.cat(parts, dim=1), 2 * subjects[:, 0] + subjects[:, 1]


def make(faulty: bool) -> Case:
    """Return the program; the faulty one reads at the first separator."""
    batches = batched(*pairs(1536))
    return classifier(
        Entailment(first=faulty),
        batches[:40],
        batches[40:],
        {"right": {"answer at the wrong step"}, "partly": set()}
        if faulty
        else {"healthy", "no long dependency"},
        epochs=14,
        classes=4,
    )
