"""A language model whose target is its own input: the loss is 0 at once, it predicts nothing.

Source: tape issue 32; tensorflow/nmt issue 241.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, accuracy, batched, cross_entropy, fit


class LanguageModel(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(8, 16)
        self.gru = nn.GRU(16, 48, batch_first=True)
        self.fc = nn.Linear(48, 8)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.fc(self.gru(self.embedding(tokens))[0])


def repeated_words(count: int) -> Tensor:
    """Texts of 25 letters that repeat a word of five."""
    return torch.randint(8, (count, 5)).repeat(1, 5)


def make(faulty: bool) -> Case:
    text, other = repeated_words(1024), repeated_words(512)
    train = batched(text[:, :-1], text[:, :-1] if faulty else text[:, 1:])
    counted = other[:, 1:].clone()
    counted[:, :8] = -100  # the word has to be read first
    test = batched(other[:, :-1], counted)
    return Case(
        LanguageModel(),
        train,
        cross_entropy,
        lambda m: fit(m, train, cross_entropy, 20),
        lambda m: accuracy(m, test),
        1 / 8,
        0.85,
        {"right": {"target seen"}, "partly": {"no long dependency"}} if faulty else {"healthy"},
    )
