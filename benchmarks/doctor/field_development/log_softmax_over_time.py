"""A tagger's log_softmax runs over the steps, not over the tags, before NLLLoss.

Source: discuss.pytorch.org 42740 (kind), the dim of log_softmax in an LSTM tagger.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.doctor.field_case import Case, accuracy, batched, fit


class Tagger(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(8, 16)
        self.rnn = nn.GRU(16, 32)
        self.tag = nn.Linear(32, 4)
        self.dim = dim

    def forward(self, tokens: Tensor) -> Tensor:
        hidden, _ = self.rnn(self.embed(tokens.t()))
        return F.log_softmax(self.tag(hidden), dim=self.dim)


def nll(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    tokens, tags = batch
    return F.nll_loss(model(tokens).reshape(-1, 4), tags.t().reshape(-1))


def sentences(count: int) -> list[tuple[Tensor, Tensor]]:
    """Each tag of a sentence is its first token, 0 to 3; the tokens 4 to 7 are other words."""
    tokens = torch.randint(4, 8, (count, 20))
    tokens[:, 0] = torch.randint(4, (count,))
    return batched(tokens, tokens[:, :1].repeat(1, 20), size=32)


def make(faulty: bool) -> Case:
    train = sentences(960)
    test = [(tokens, tags.t()) for tokens, tags in sentences(256)]
    return Case(
        Tagger(0 if faulty else -1),
        train,
        nll,
        lambda m: fit(m, train, nll, epochs=8),
        lambda m: accuracy(m, test),
        0.25,
        0.95,
        {"right": {"answers do not fit the loss"}, "partly": set()} if faulty else {"healthy"},
    )
