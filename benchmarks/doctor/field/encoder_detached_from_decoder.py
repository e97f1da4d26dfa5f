"""An encoder-decoder with teacher forcing and equal lengths; the encoder's state is detached.

Source: pytorch/tutorials, pull request 589 (teacher forcing), and the habit of the language model
example to detach every state (yikangshen/Ordered-Neurons, issue 13). The target is the source in
reverse, scored on whole sequences. The healthy decoder reads its targets, shifted by one: no leak.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.doctor.field_case import Case, fit

SYMBOLS, SOS = 8, 8


class Seq2Seq(nn.Module):
    def __init__(self, hidden: int, detach: bool) -> None:
        super().__init__()
        self.embedding = nn.Embedding(SYMBOLS + 1, 16)
        self.encoder = nn.GRU(16, hidden, batch_first=True)
        self.decoder = nn.GRU(16, hidden, batch_first=True)
        self.out = nn.Linear(hidden, SYMBOLS)
        self.detach = detach

    def encode(self, source: Tensor) -> Tensor:
        _, state = self.encoder(self.embedding(source))
        return state.detach() if self.detach else state

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        shifted = F.pad(target[:, :-1], (1, 0), value=SOS)
        out, _ = self.decoder(self.embedding(shifted), self.encode(source))
        return self.out(out)

    def generate(self, source: Tensor) -> Tensor:
        state, token, tokens = self.encode(source), torch.full((len(source), 1), SOS), []
        for _ in range(source.size(1)):
            out, state = self.decoder(self.embedding(token), state)
            token = self.out(out).argmax(-1)
            tokens.append(token)
        return torch.cat(tokens, 1)


def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    source, target = batch
    return F.cross_entropy(model(source, target).flatten(0, 1), target.flatten())


def make(faulty: bool) -> Case:
    source = torch.randint(SYMBOLS, (64 * 48, 8))
    pairs = list(zip(source.split(64), source.flip(1).split(64), strict=True))
    train, test = pairs[:40], pairs[40:]

    def score(model: nn.Module) -> float:
        assert isinstance(model, Seq2Seq)
        with torch.no_grad():
            right = [(model.generate(x) == y).all(1).float().mean() for x, y in test]
        return float(torch.stack(right).mean())

    return Case(
        Seq2Seq(48, detach=faulty),
        train,
        loss,
        lambda model: fit(model, train, loss, epochs=30, lr=0.01),
        score,
        chance=0.0,
        good=0.5,
        accept={"right": {"gradient cut"}, "partly": {"not trained"}} if faulty else {"healthy"},
    )
