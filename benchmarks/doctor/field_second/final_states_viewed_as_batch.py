"""The final states of both directions, (2, batch, hidden), are viewed as (batch, 2 * hidden).

Source: kind: discuss.pytorch.org 119521 and its neighbours on `h_n` of a bidirectional layer. The
view puts the states of two other sentences into each row; `permute` or `cat` does not.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, classifier

POSITIVE, NEGATIVE, NOT, NEUTRAL, WORDS = 1, 4, 7, 8, 24


class SentimentClassifier(nn.Module):
    def __init__(self, view: bool) -> None:
        super().__init__()
        self.embedding = nn.Embedding(WORDS, 12)
        self.rnn = nn.GRU(12, 20, batch_first=True, bidirectional=True)
        self.fc = nn.Linear(40, 2)
        self.view = view

    def forward(self, words: Tensor) -> Tensor:
        _, h_n = self.rnn(self.embedding(words))
        if self.view:
            return self.fc(h_n.view(words.shape[0], -1))
        return self.fc(torch.cat((h_n[0], h_n[1]), 1))


def reviews(count: int, steps: int) -> tuple[Tensor, Tensor]:
    """Return sentences with one word of feeling, which half of the time follows a negation."""
    words = torch.randint(NEUTRAL, WORDS, (count, steps))
    at, row = torch.randint(2, steps - 2, (count,)), torch.arange(count)
    negative, negated = torch.randint(2, (count,)), torch.randint(2, (count,))
    words[row, at] = torch.where(negative == 1, NEGATIVE, POSITIVE) + torch.randint(3, (count,))
    words[row[negated == 1], at[negated == 1] - 1] = NOT
    return words, negative ^ negated


def make(faulty: bool) -> Case:
    batches = batched(*reviews(32 * 44, 24))
    return classifier(
        SentimentClassifier(view=faulty),
        batches[:36],
        batches[36:],
        {"right": {"samples mixed"}, "partly": {"target meets other answers"}}
        if faulty
        else {"healthy", "no long dependency"},
        epochs=12,
    )
