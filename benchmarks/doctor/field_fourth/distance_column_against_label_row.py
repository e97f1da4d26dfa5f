"""The contrastive loss combines distances (batch, 1) with labels (batch,).

Source: GitHub dhwajraj/deep-siamese-text-similarity#51 and Kadenze/siamese_net#7 (a contrastive
loss that is written by hand); kind: keepdim, and a loss that broadcasts.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, answers, batched, fit

LETTERS, LENGTH, AUTHORS, MARGIN = 30, 16, 4, 1.0


class PairEncoder(nn.Module):
    """One GRU for both texts, and the distance of the two final states."""

    def __init__(self, keepdim: bool) -> None:
        super().__init__()
        self.embedding = nn.Embedding(LETTERS, 12)
        self.gru = nn.GRU(12, 24, batch_first=True)
        self.project = nn.Linear(24, 8)
        self.keepdim = keepdim

    def encode(self, text: Tensor) -> Tensor:
        """The projected final state."""
        return self.project(self.gru(self.embedding(text))[1][-1])

    def forward(self, one: Tensor, other: Tensor) -> Tensor:
        difference = self.encode(one) - self.encode(other)
        return (difference.square().sum(1, keepdim=self.keepdim) + 1e-6).sqrt()


def contrastive(model: nn.Module, batch: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """The contrastive loss: equal authors near, others at least the margin apart."""
    one, other, same = batch
    distance = model(one, other)
    far = (MARGIN - distance).clamp(min=0)
    return (same * distance.square() + (1 - same) * far.square()).mean()


def texts(author: Tensor) -> Tensor:
    """Return texts in which half of the letters are the four favourites of the author."""
    shape = (len(author), LENGTH)
    favourites = 4 * author[:, None] + torch.randint(4, shape)
    return torch.where(torch.rand(shape) < 0.5, favourites, torch.randint(16, LETTERS, shape))


def make(faulty: bool) -> Case:
    """Return the program; the faulty one keeps the axis that it sums over."""
    one, other = torch.randint(AUTHORS, (2, 1280))
    other = torch.where(torch.rand(1280) < 0.35, one, other)
    batches = batched(texts(one), texts(other), (one == other).float())
    train, test = batches[:32], batches[32:]

    def score(model: nn.Module) -> float:
        pairs = answers(model, test)
        hits = [((d.flatten() < MARGIN / 2) == (same > 0.5)).float() for d, same in pairs]
        return float(torch.cat(hits).mean())

    return Case(
        PairEncoder(keepdim=faulty),
        train,
        contrastive,
        lambda model: fit(model, train, contrastive, epochs=14),
        score,
        chance=0.5,
        good=0.9,
        accept={"right": {"target meets other answers"}, "partly": {"samples mixed"}}
        if faulty
        else {"healthy", "no long dependency"},
    )
