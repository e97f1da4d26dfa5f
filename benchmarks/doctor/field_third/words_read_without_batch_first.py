"""A sentiment LSTM gets (review, word) embeddings without `batch_first` and answers `out[:, -1]`.

Source: taourl.com read-2624309, "loss does not decrease", on `batch_first` and the input's axes.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, classifier


class Sentiment(nn.Module):
    def __init__(self, batch_first: bool) -> None:
        super().__init__()
        self.embed = nn.Embedding(60, 12)
        self.lstm = nn.LSTM(12, 24, batch_first=batch_first)
        self.fc = nn.Linear(24, 2)

    def forward(self, words: Tensor) -> Tensor:
        out, _ = self.lstm(self.embed(words))
        return self.fc(out[:, -1])


def reviews(count: int, words: int) -> tuple[Tensor, Tensor]:
    x, y = torch.randint(10, 60, (count, words)), torch.randint(2, (count,))
    place = torch.randint(2, words // 2, (count,))
    x[torch.arange(count), place] = 5 * y + torch.randint(5, (count,))
    return x, y


def make(faulty: bool) -> Case:
    batches = batched(*reviews(32 * 44, 22))
    return classifier(
        Sentiment(batch_first=not faulty),
        batches[:34],
        batches[34:],
        accept={"right": {"time and batch swapped"}, "partly": {"samples mixed"}}
        if faulty
        else {"healthy", "no long dependency"},
        epochs=8,
    )
