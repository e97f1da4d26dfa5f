"""A document is read page by page, and the state is detached between the pages.

Kind: truncated backpropagation in a classifier whose only answer comes after the last page;
GitHub jiangqy/LSTM-Classification-pytorch#1 has a model that carries its hidden state along.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, classifier

WORDS, PAGES, PAGE, AUTHORS = 30, 4, 7, 3


class DocumentClassifier(nn.Module):
    """A GRU over the pages of a document; the state after the last one gives the author."""

    def __init__(self, detach: bool) -> None:
        super().__init__()
        self.embedding = nn.Embedding(WORDS, 16)
        self.gru = nn.GRU(16, 32, batch_first=True)
        self.author = nn.Linear(32, AUTHORS)
        self.detach = detach

    def forward(self, document: Tensor) -> Tensor:
        state = None
        for page in document.split(PAGE, dim=1):
            if self.detach and state is not None:
                state = state.detach()
            _, state = self.gru(self.embedding(page), state)
        assert state is not None
        return self.author(state[-1])


def documents(count: int) -> tuple[Tensor, Tensor]:
    """Return documents of four pages whose first page names the author thrice, and the author."""
    author = torch.randint(AUTHORS, (count,))
    document = torch.randint(AUTHORS, WORDS, (count, PAGES * PAGE))
    places = torch.rand(count, PAGE).argsort(1)[:, :3]
    return document.scatter(1, places, author[:, None].expand(-1, 3)), author


def make(faulty: bool) -> Case:
    """Return the program; the right one keeps the graph of the state."""
    batches = batched(*documents(1536))
    return classifier(
        DocumentClassifier(detach=faulty),
        batches[:40],
        batches[40:],
        {"right": {"gradient cut"}, "partly": set()} if faulty else {"healthy"},
        epochs=10,
        classes=AUTHORS,
    )
