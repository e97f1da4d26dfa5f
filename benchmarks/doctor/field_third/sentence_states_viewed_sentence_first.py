"""Sentence states of shape (document * sentence) are viewed as (sentence, document): they mix.

Source: kind: vietnh1009/Hierarchical-attention-networks-pytorch issue 12 and other hierarchical
readers, whose second layer is time-first.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, classifier


class TwoLevels(nn.Module):
    def __init__(self, viewed: bool) -> None:
        super().__init__()
        self.embed = nn.Embedding(30, 8)
        self.words = nn.GRU(8, 12, batch_first=True)
        self.sentences = nn.GRU(12, 16)
        self.fc = nn.Linear(16, 4)
        self.viewed = viewed

    def forward(self, documents: Tensor) -> Tensor:
        count, sentences, _ = documents.shape
        _, h = self.words(self.embed(documents.flatten(0, 1)))
        if self.viewed:
            states = h[-1].view(sentences, count, -1)
        else:
            states = h[-1].view(count, sentences, -1).transpose(0, 1)
        out, _ = self.sentences(states)
        return self.fc(out[-1])


def documents(count: int) -> tuple[Tensor, Tensor]:
    """The second sentence holds the word that decides."""
    x, y = torch.randint(4, 30, (count, 4, 6)), torch.randint(4, (count,))
    x[torch.arange(count), 1, torch.randint(1, 5, (count,))] = y
    return x, y


def make(faulty: bool) -> Case:
    batches = batched(*documents(32 * 46))
    return classifier(
        TwoLevels(viewed=faulty),
        batches[:38],
        batches[38:],
        accept={"right": {"samples mixed"}, "partly": {"target meets other answers"}}
        if faulty
        else {"healthy", "no long dependency"},
        epochs=14,
        classes=4,
    )
