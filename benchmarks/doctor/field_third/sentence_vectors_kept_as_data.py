"""The sentence vectors of a hierarchical reader are stored as `h.data`: the word GRU never learns.

Source: kind: ematvey/hierarchical-attention-networks issue 20, "same sentence level outputs for
very different documents".
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, classifier


class DocumentReader(nn.Module):
    def __init__(self, as_data: bool) -> None:
        super().__init__()
        self.embed = nn.Embedding(40, 8)
        self.words = nn.GRU(8, 12, batch_first=True)
        self.sentences = nn.GRU(12, 12, batch_first=True)
        self.fc = nn.Linear(12, 4)
        self.as_data = as_data

    def forward(self, documents: Tensor) -> Tensor:
        vectors = []
        for sentence in documents.unbind(1):
            _, h = self.words(self.embed(sentence))
            vectors.append(h[-1].data if self.as_data else h[-1])
        _, h = self.sentences(torch.stack(vectors, 1))
        return self.fc(h[-1])


def documents(count: int) -> tuple[Tensor, Tensor]:
    x, y = torch.randint(4, 40, (count, 3, 14)), torch.randint(4, (count,))
    x[torch.arange(count), 0, torch.randint(5, (count,))] = y
    return x, y


def make(faulty: bool) -> Case:
    batches = batched(*documents(32 * 44))
    return classifier(
        DocumentReader(as_data=faulty),
        batches[:34],
        batches[34:],
        accept={"right": {"gradient cut"}, "partly": {"not trained"}}
        if faulty
        else {"healthy", "no long dependency"},
        epochs=20,
        classes=4,
    )
