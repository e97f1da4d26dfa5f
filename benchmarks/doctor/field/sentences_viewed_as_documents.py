"""A hierarchical network: words, sentences, documents; a `view` regroups the sentences.

Source: pandeykartikey/Hierarchical-Attention-Network, issue 5, "at least 2 apparent mistakes": the
axes of words, sentences and documents are mixed up. The class depends on the order of sentences.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, accuracy, batched, cross_entropy, fit

SENTENCES, WORDS = 6, 5


class Hierarchical(nn.Module):
    def __init__(self, view: bool) -> None:
        super().__init__()
        self.embed = nn.Embedding(30, 12)
        self.word_gru = nn.GRU(12, 16, batch_first=True, bidirectional=True)
        self.sentence_gru = nn.GRU(32, 24)
        self.classify = nn.Linear(24, 3)
        self.view = view

    def forward(self, documents: Tensor) -> Tensor:
        batch, sentences, words = documents.shape
        _, h = self.word_gru(self.embed(documents.view(batch * sentences, words)))
        vectors = torch.cat((h[0], h[1]), 1)
        if self.view:
            vectors = vectors.view(sentences, batch, -1)
        else:
            vectors = vectors.view(batch, sentences, -1).transpose(0, 1)
        _, state = self.sentence_gru(vectors)
        return self.classify(state[-1])


def documents(count: int) -> tuple[Tensor, Tensor]:
    """The word 0 praises and 1 blames; the class: nothing else but one, or the order of both."""
    x = torch.randint(2, 30, (count, SENTENCES, WORDS))
    rows = torch.arange(count)
    first = torch.randint(0, SENTENCES // 2, (count,))
    second = torch.randint(SENTENCES // 2, SENTENCES, (count,))
    y = torch.randint(3, (count,))
    at = torch.randint(WORDS, (2, count))
    x[rows, first, at[0]] = torch.tensor([0, 1, 0])[y]
    x[rows, second, at[1]] = torch.tensor([1, 0, 0])[y]
    return x, y


def make(faulty: bool) -> Case:
    batches = batched(*documents(32 * 56))
    train, test = batches[:48], batches[48:]
    return Case(
        Hierarchical(view=faulty),
        train,
        cross_entropy,
        lambda model: fit(model, train, cross_entropy, epochs=10),
        lambda model: accuracy(model, test),
        chance=1 / 3,
        good=0.95,
        accept={"right": {"samples mixed"}, "partly": set()} if faulty else {"healthy"},
    )
