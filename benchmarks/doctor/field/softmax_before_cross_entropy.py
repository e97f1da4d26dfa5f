"""A softmax layer ends the classifier, and the loss is cross-entropy, which has its own.

Source: discuss.pytorch.org 18402, "Classification result converges": an LSTM over 41 classes whose
loss stays near 3.7. Data: the words of Python, each with letters after it.
"""

import builtins
import keyword
import math

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import (
    Case,
    batched,
    cross_entropy,
    fit,
    letters,
)


class WordClassifier(nn.Module):
    def __init__(self, vocab: int, classes: int, final: nn.Module) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab, 16)
        self.lstm = nn.LSTM(16, 40, batch_first=True)
        self.fc = nn.Linear(40, classes)
        self.final = final

    def forward(self, x: Tensor) -> Tensor:
        _, (hn, _) = self.lstm(self.embedding(x))
        return self.final(self.fc(hn[-1]))


WORDS = [*keyword.kwlist, *(w for w in dir(builtins) if w.islower() and len(w) < 12)]


def lines(count: int) -> tuple[Tensor, Tensor]:
    y = torch.randint(len(WORDS), (count,))
    x = torch.randint(1, 27, (count, 16))
    for row, label in zip(x, y.tolist(), strict=True):
        start = WORDS[label] + " "
        row[: len(start)] = torch.tensor(letters(start, len(start)))
    return x, y


def make(faulty: bool) -> Case:
    x, y = lines(64 * 34)
    batches = batched(x, y, size=64)
    train, test = batches[:26], batches[26:]
    model = WordClassifier(28, len(WORDS), nn.Softmax(dim=1) if faulty else nn.Identity())

    def score(model: nn.Module) -> float:
        with torch.no_grad():
            return sum(float(cross_entropy(model, batch)) for batch in test) / len(test)

    return Case(
        model,
        train,
        cross_entropy,
        lambda model: fit(model, train, cross_entropy, epochs=30, lr=0.003),
        score,
        chance=math.log(len(WORDS)),
        good=0.5,
        accept={"right": {"answers do not fit the loss"}, "partly": set()}
        if faulty
        else {"healthy", "no long dependency"},
    )
