"""Dropout of 0.95 on the word embeddings hides nearly every word that the answer needs.

Source: kind: threads in which the keep probability of an older TensorFlow script becomes PyTorch's
`p`. The opinion is one word among many.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, classifier


class Opinion(nn.Module):
    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.embed = nn.Embedding(60, 8)
        self.dropout = nn.Dropout2d(dropout)
        self.gru = nn.GRU(8, 20, batch_first=True, bidirectional=True)
        self.fc = nn.Linear(40, 4)

    def forward(self, words: Tensor) -> Tensor:
        whole_words = self.dropout(self.embed(words)[..., None])[..., 0]
        out, _ = self.gru(whole_words)
        return self.fc(out.max(1).values)


def opinions(count: int) -> tuple[Tensor, Tensor]:
    words, y = torch.randint(8, 60, (count, 20)), torch.randint(4, (count,))
    rows, place = torch.arange(count), torch.randint(2, 16, (count,))
    second = torch.randint(2, (count,))
    words[rows, place] = y // 2 * 2 + second
    words[rows, place + 2] = 4 + (y % 2) * 2 + second
    return words, y


def make(faulty: bool) -> Case:
    batches = batched(*opinions(32 * 48))
    return classifier(
        Opinion(0.95 if faulty else 0.05),
        batches[:38],
        batches[38:],
        accept={"right": {"dropout"}, "partly": set()}
        if faulty
        else {"healthy", "no long dependency"},
        epochs=8,
        classes=4,
        good=0.88,
    )
