"""The decoder's inputs are the targets, not shifted by a start token: teacher forcing copies.

Source: kind: pytorch/tutorials issues on seq2seq, a training loss near 0 and nonsense in use.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, cross_entropy, fit


class Translator(nn.Module):
    def __init__(self, shifted: bool) -> None:
        super().__init__()
        self.source = nn.Embedding(9, 16)
        self.spoken = nn.Embedding(9, 16)
        self.encoder = nn.GRU(16, 48, batch_first=True)
        self.decoder = nn.GRU(16, 48, batch_first=True)
        self.out = nn.Linear(48, 9)
        self.shifted = shifted

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        _, state = self.encoder(self.source(source))
        inputs = target
        if self.shifted:
            inputs = torch.cat([torch.zeros_like(target[:, :1]), target[:, :-1]], 1)
        return self.out(self.decoder(self.spoken(inputs), state)[0])

    @torch.no_grad()
    def speak(self, source: Tensor, steps: int) -> Tensor:
        _, state = self.encoder(self.source(source))
        token, said = torch.zeros_like(source[:, :1]), []
        for _ in range(steps):
            output, state = self.decoder(self.spoken(token), state)
            token = self.out(output).argmax(-1)
            said.append(token)
        return torch.cat(said, 1)


def pairs(count: int) -> list[tuple[Tensor, Tensor, Tensor]]:
    """The first four of twelve symbols, each raised by one."""
    source = torch.randint(1, 8, (count, 12))
    target = source[:, :4] + 1
    return batched(source, target, target, size=32)


def make(faulty: bool) -> Case:
    train, test = pairs(1280), pairs(256)

    def score(model: nn.Module) -> float:
        assert isinstance(model, Translator)
        right = [(model.speak(source, 4) == said).float().mean() for source, _, said in test]
        return float(torch.stack(right).mean())

    return Case(
        Translator(not faulty),
        train,
        cross_entropy,
        lambda m: fit(m, train, cross_entropy, epochs=14),
        score,
        1 / 7,
        0.8,
        {"right": {"target seen"}, "partly": set()} if faulty else {"healthy"},
    )
