"""Each batch builds its own vocabulary, so that a number means another word in every batch.

Source: kind: threads in which a tokenizer is fitted anew on each batch or on the test texts.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, classifier


class TopicReader(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(40, 10)
        self.gru = nn.GRU(10, 20, batch_first=True)
        self.fc = nn.Linear(20, 3)

    def forward(self, words: Tensor) -> Tensor:
        _, h = self.gru(self.embed(words))
        return self.fc(h[-1])


def texts(count: int, words: int) -> tuple[Tensor, Tensor]:
    """The class is the topic of the first of two topic words."""
    x, y = torch.randint(9, 40, (count, words)), torch.randint(3, (count,))
    rows = torch.arange(count)
    x[rows, torch.randint(8, (count,))] = 3 * torch.randint(3, (count,)) + y
    x[rows, torch.randint(8, words, (count,))] = torch.randint(9, (count,))
    return x, y


def numbered(words: Tensor) -> Tensor:
    """The words of a batch, numbered in the order in which they first occur."""
    numbers: dict[int, int] = {}
    return torch.tensor([[numbers.setdefault(w, len(numbers)) for w in r] for r in words.tolist()])


def make(faulty: bool) -> Case:
    batches = batched(*texts(32 * 46, 18))
    if faulty:
        batches = [(numbered(words), y) for words, y in batches]
    return classifier(
        TopicReader(),
        batches[:38],
        batches[38:],
        accept={"right": {"no dependence found"}, "partly": set()}
        if faulty
        else {"healthy", "no long dependency"},
        epochs=16,
        classes=3,
        good=0.85,
    )
