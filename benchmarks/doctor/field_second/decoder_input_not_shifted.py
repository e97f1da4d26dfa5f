"""The decoder reads the target of the same step, so that in training it copies its input.

Source: bentrevett/pytorch-seq2seq issue 42 and graykode/nlp-tutorial issue 36 on the decoder's
inputs (kind: teacher forcing without a shift). Data: letters of Python's reference in six groups;
the decoder repeats the marked ones. Scored by letters that the decoder generates on its own.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, cross_entropy, fit, prose

GROUPS, STEPS, MARKED, START = 6, 16, 3, 6


class Translator(nn.Module):
    def __init__(self, shifted: bool) -> None:
        super().__init__()
        self.embed = nn.Embedding(GROUPS + 1, 12)
        self.encoder = nn.GRU(13, 48, batch_first=True)
        self.decoder = nn.GRU(12, 48, batch_first=True)
        self.out = nn.Linear(48, GROUPS)
        self.shifted = shifted

    def encode(self, source: Tensor, mark: Tensor) -> Tensor:
        _, state = self.encoder(torch.cat((self.embed(source), mark[..., None]), dim=2))
        return state

    def forward(self, source: Tensor, mark: Tensor, target: Tensor) -> Tensor:
        start = torch.full_like(target[:, :1], START)
        given = torch.cat((start, target[:, :-1]), dim=1) if self.shifted else target
        output, _ = self.decoder(self.embed(given), self.encode(source, mark))
        return self.out(output)

    def generate(self, source: Tensor, mark: Tensor) -> Tensor:
        state = self.encode(source, mark)
        letter = torch.full_like(source[:, :1], START)
        letters = []
        for _ in range(MARKED):
            output, state = self.decoder(self.embed(letter), state)
            letter = self.out(output).argmax(-1)
            letters.append(letter)
        return torch.cat(letters, dim=1)


def passages(count: int) -> tuple[Tensor, Tensor, Tensor]:
    source = (prose(count * STEPS) % GROUPS).reshape(count, STEPS)[torch.randperm(count)]
    places = torch.rand(count, STEPS).argsort(1)[:, :MARKED].sort(1).values
    mark = torch.zeros(count, STEPS).scatter_(1, places, 1.0)
    return source, mark, source.gather(1, places)


def loss(model: nn.Module, batch: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    source, mark, target = batch
    return cross_entropy(model, (source, mark, target, target))


def score(model: Translator, batches: list[tuple[Tensor, Tensor, Tensor]]) -> float:
    model.eval()
    with torch.no_grad():
        right = [(model.generate(x, mark) == y).float().mean() for x, mark, y in batches]
    return float(torch.stack(right).mean())


def make(faulty: bool) -> Case:
    batches = batched(*passages(32 * 56))
    train, test = batches[:48], batches[48:]
    return Case(
        Translator(shifted=not faulty),
        train,
        loss,
        lambda model: fit(model, train, loss, epochs=30, lr=0.005),
        lambda model: score(model, test),
        chance=0.22,
        good=0.8,
        accept={"right": {"target seen"}, "partly": {"target meets other answers"}}
        if faulty
        else {"healthy"},
    )
