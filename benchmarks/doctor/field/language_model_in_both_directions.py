"""A model of the next character is bidirectional: it reads the character that it predicts.

Source: sherjilozair/char-rnn-tensorflow, pull request 64, "the RNN has seen the future while
predicting the next character". Data: Python's reference. Scored on the loss of the next
character after a text that ends there.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.doctor.field_case import Case, fit, prose

T = 80


class CharModel(nn.Module):
    def __init__(self, bidirectional: bool) -> None:
        super().__init__()
        self.encoder = nn.Embedding(28, 16)
        self.rnn = nn.GRU(16, 40, batch_first=True, bidirectional=bidirectional)
        self.decoder = nn.Linear(40 * (1 + bidirectional), 28)

    def forward(self, x: Tensor) -> Tensor:
        out, _ = self.rnn(self.encoder(x))
        return self.decoder(out)


def loss(model: nn.Module, chunk: Tensor) -> Tensor:
    logits = model(chunk)[:, :-1]
    return F.cross_entropy(logits.flatten(0, 1), chunk[:, 1:].flatten())


def make(faulty: bool) -> Case:
    text = prose((T + 1) * 20 * 48).view(-1, T + 1)
    text = text[torch.randperm(len(text))]
    chunks = list(text.split(20))
    train, test = chunks[:36], chunks[36:]
    shares = torch.cat(test).flatten().bincount(minlength=28) / torch.cat(test).numel()
    chance = float(-torch.xlogy(shares, shares).sum())

    def score(model: nn.Module) -> float:
        with torch.no_grad():
            losses = [
                F.cross_entropy(model(chunk[:, :end])[:, -1], chunk[:, end])
                for chunk in test
                for end in range(30, T, 7)
            ]
        return float(torch.stack(losses).mean())

    return Case(
        CharModel(bidirectional=faulty),
        train,
        loss,
        lambda model: fit(model, train, loss, epochs=6),
        score,
        chance=chance,
        good=1.7,
        accept={"right": {"state leak", "target seen"}, "partly": set()}
        if faulty
        else {"healthy", "no long dependency"},
    )
