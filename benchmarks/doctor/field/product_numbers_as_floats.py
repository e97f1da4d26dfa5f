"""The numbers of products go into the layer as floats, without an embedding.

Source: aneesh-joshi/LSTM_POS_Tagger, issue 15, "Or just the word index".
A customer comes back if one of the products of a list was bought.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.doctor.field_case import Case, accuracy, batched, fit

PRODUCTS = 300


class ReturnModel(nn.Module):
    def __init__(self, embedded: bool) -> None:
        super().__init__()
        self.embedding = nn.Embedding(PRODUCTS, 12) if embedded else None
        self.rnn = nn.LSTM(12 if embedded else 1, 32, batch_first=True)
        self.out = nn.Linear(32, 2)

    def forward(self, baskets: Tensor) -> Tensor:
        steps = self.embedding(baskets) if self.embedding else baskets.unsqueeze(-1).float()
        _, (h, _) = self.rnn(steps)
        return self.out(h[-1])


def histories(count: int, steps: int) -> tuple[Tensor, Tensor]:
    """Half of the products bind a customer; three of the latest five purchases decide."""
    binds = torch.rand(PRODUCTS) < 0.5
    x = torch.randint(PRODUCTS, (count, steps))
    return x, (binds[x[:, -5:-2]].sum(1) > 1).long()


def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    baskets, returned = batch
    return F.cross_entropy(model(baskets), returned)


def make(faulty: bool) -> Case:
    batches = batched(*histories(64 * 54, 10), size=64)
    train, test = batches[:48], batches[48:]
    return Case(
        ReturnModel(embedded=not faulty),
        train,
        loss,
        lambda model: fit(model, train, loss, epochs=14),
        lambda model: accuracy(model, test),
        chance=0.5,
        good=0.85,
        accept={"right": {"inputs not scaled"}, "partly": {"saturated"}}
        if faulty
        else {"healthy", "no long dependency"},
    )
