"""A long review is judged by the last state of an LSTM, though its verdict stands near the start.

Source: GitHub keras-team/keras#1864, "Training loss not going down at all!" (the last state of an
LSTM over long padded texts); the usual advice there is to pool over the words.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, classifier

WORDS, LENGTH, STARS = 60, 120, 4


class ReviewLSTM(nn.Module):
    """An LSTM over the words of a review."""

    def __init__(self, pool: bool) -> None:
        super().__init__()
        self.embedding = nn.Embedding(WORDS, 16)
        self.lstm = nn.LSTM(16, 32, batch_first=True)
        self.fc = nn.Linear(32, STARS)
        self.pool = pool

    def forward(self, review: Tensor) -> Tensor:
        out, _ = self.lstm(self.embedding(review))
        return self.fc(out.max(dim=1).values if self.pool else out[:, -1])


def reviews(count: int) -> tuple[Tensor, Tensor]:
    """Return reviews of 120 words, with a word of verdict among the first ten, and its class."""
    stars = torch.randint(STARS, (count,))
    review = torch.randint(3 * STARS, WORDS, (count, LENGTH))
    place = torch.randint(10, (count, 1))
    verdict = 3 * stars[:, None] + torch.randint(3, (count, 1))
    return review.scatter(1, place, verdict), stars


def make(faulty: bool) -> Case:
    """Return the program; the right one takes the largest output over the words."""
    batches = batched(*reviews(1280))
    return classifier(
        ReviewLSTM(pool=not faulty),
        batches[:32],
        batches[32:],
        {"right": {"forgetting", "vanishing gradient"}, "partly": set()}
        if faulty
        else {"healthy", "no long dependency"},
        epochs=10,
        classes=STARS,
    )
