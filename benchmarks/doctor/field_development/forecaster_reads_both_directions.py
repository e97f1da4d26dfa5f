"""Prediction of the next letter with a bidirectional GRU: its backward half has the target.

Source: discuss.pytorch.org/t/175731.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, cross_entropy, fit


class NextLetter(nn.Module):
    def __init__(self, bidirectional: bool) -> None:
        super().__init__()
        self.embedding = nn.Embedding(8, 16)
        self.gru = nn.GRU(16, 48, batch_first=True, bidirectional=bidirectional)
        self.fc = nn.Linear(96 if bidirectional else 48, 8)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.fc(self.gru(self.embedding(tokens))[0])


def repeated_words(count: int) -> Tensor:
    """Texts of 28 letters that repeat a word of seven."""
    return torch.randint(8, (count, 7)).repeat(1, 4)


def make(faulty: bool) -> Case:
    text, other = repeated_words(1024), repeated_words(512)
    train = batched(text[:, :-1], text[:, 1:])

    def score(model: nn.Module) -> float:
        """The accuracy of the last answer to a prefix, as a forecaster is used."""
        with torch.no_grad():
            answer = model(other[:, :15])[:, -1].argmax(dim=-1)
        return float((answer == other[:, 15]).float().mean())

    return Case(
        NextLetter(faulty),
        train,
        cross_entropy,
        lambda m: fit(m, train, cross_entropy, 15),
        score,
        1 / 8,
        0.95,
        {"right": {"target seen", "state leak"}, "partly": set()} if faulty else {"healthy"},
    )
