"""(batch, time, class) becomes (batch, class, time) by `view` before cross_entropy.

Source: kind: stackoverflow, cross_entropy wants the classes second.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.doctor.field_case import Case, accuracy, batched, fit


class Parser(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(10, 16)
        self.rnn = nn.GRU(16, 32, batch_first=True)
        self.out = nn.Linear(32, 5)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.out(self.rnn(self.embed(tokens))[0])


def delayed(count: int) -> list[tuple[Tensor, Tensor]]:
    """A token's half, six steps later; the first six targets are 0."""
    tokens = torch.randint(10, (count, 18))
    target = torch.zeros_like(tokens)
    target[:, 6:] = tokens[:, :-6] // 2
    return batched(tokens, target, size=32)


def make(faulty: bool) -> Case:
    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        tokens, target = batch
        answers = model(tokens)
        classes = answers.view(len(tokens), 5, -1) if faulty else answers.transpose(1, 2)
        return F.cross_entropy(classes, target)

    train, test = delayed(1024), delayed(256)
    return Case(
        Parser(),
        train,
        loss,
        lambda m: fit(m, train, loss, epochs=25),
        lambda m: accuracy(m, test),
        0.33,
        0.8,
        {"right": {"target meets other answers"}, "partly": {"answers do not fit the loss"}}
        if faulty
        else {"healthy"},
    )
