"""The embedding is drawn with a standard deviation of 40, and the gates stand at 0 or 1.

Source: kind: Element-Research/rnn issue 187, on activations that leave their range.
The healthy embedding has a standard deviation of 0.5.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, classifier

WORDS, STEPS = 200, 30


class LetterClassifier(nn.Module):
    def __init__(self, deviation: float) -> None:
        super().__init__()
        self.embedding = nn.Embedding(WORDS, 16)
        self.lstm = nn.LSTM(16, 24, batch_first=True)
        self.out = nn.Linear(24, 2)
        nn.init.normal_(self.embedding.weight, std=deviation)

    def forward(self, words: Tensor) -> Tensor:
        return self.out(self.lstm(self.embedding(words))[0][:, -1])


def mail(count: int) -> tuple[Tensor, Tensor]:
    """Return letters with one word out of two groups of six, and its group."""
    words, y = torch.randint(12, WORDS, (count, STEPS)), torch.randint(2, (count,))
    at, kind = torch.randint(STEPS - 4, (count,)), torch.randint(6, (count,))
    words[torch.arange(count), at] = kind + 6 * y
    return words, y


def make(faulty: bool) -> Case:
    batches = batched(*mail(32 * 44))
    return classifier(
        LetterClassifier(40.0 if faulty else 0.5),
        batches[:36],
        batches[36:],
        {"right": {"saturated", "inputs not scaled"}, "partly": set()} if faulty else {"healthy"},
        epochs=14,
    )
