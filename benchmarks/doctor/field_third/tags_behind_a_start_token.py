"""A start token precedes the words but not their tags: each answer is due before its word is read.

Source: kind: keras-team/keras issue 1539, a sequence labeller that predicts badly, and threads on
start tokens in taggers.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, accuracy, batched, cross_entropy, fit

MEANINGS = torch.tensor([[0, 1], [1, 2], [2, 0], [1, 0], [2, 1], [0, 2]]).repeat(4, 1)
START = 26


class Tagger(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(27, 12)
        self.lstm = nn.LSTM(12, 28, batch_first=True)
        self.tag = nn.Linear(28, 3)

    def forward(self, words: Tensor) -> Tensor:
        out, _ = self.lstm(self.embed(words))
        return self.tag(out)


def sentences(count: int, words: int) -> tuple[Tensor, Tensor]:
    """Words 24 and 25 switch the register, and the register selects the meaning of a word."""
    x = torch.randint(24, (count, words))
    switches = torch.rand(count, words) < 0.08
    switches[:, 0] = True
    register = torch.randint(2, (count, words))
    tags = torch.empty_like(x)
    current = register[:, 0]
    for step in range(words):
        current = torch.where(switches[:, step], register[:, step], current)
        tags[:, step] = MEANINGS[x[:, step], current]
    tags[switches] = torch.randint(3, (int(switches.sum()),))
    return torch.where(switches, 24 + register, x), tags


def make(faulty: bool) -> Case:
    words, tags = sentences(32 * 44, 24)
    start = torch.full((len(words), 1), START)
    unknown = torch.full((len(words), 1), -100)
    if faulty:
        words = torch.cat((start, words), 1)[:, :24]
    else:
        words, tags = torch.cat((start, words), 1), torch.cat((unknown, tags), 1)
    batches = batched(words, tags)
    train, test = batches[:34], batches[34:]
    return Case(
        Tagger(),
        train,
        cross_entropy,
        lambda model: fit(model, train, cross_entropy, epochs=10),
        lambda model: accuracy(model, test),
        chance=1 / 3,
        good=0.85,
        accept={"right": {"answer at the wrong step"}, "partly": {"no dependence found"}}
        if faulty
        else {"healthy", "no long dependency"},
    )
