"""Sequences are filled up at their end, and the classifier reads the last step of the batch.

Source: Stack Overflow 51030782, "Why do we pack the sequences in PyTorch?", and codemia.io, "How
LSTM deal with variable length sequence".
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.doctor.field_case import Case, fit

WORDS, LONGEST = 40, 80


class Reviews(nn.Module):
    def __init__(self, by_length: bool) -> None:
        super().__init__()
        self.embedding = nn.Embedding(WORDS, 8)
        self.rnn = nn.RNN(8, 24, batch_first=True)
        self.fc = nn.Linear(24, 2)
        self.by_length = by_length

    def forward(self, text: Tensor, lengths: Tensor) -> Tensor:
        out, _ = self.rnn(self.embedding(text))
        if self.by_length:
            return self.fc(out[torch.arange(len(text)), lengths - 1])
        return self.fc(out[:, -1])


def reviews(count: int) -> dict[str, Tensor]:
    """Words of number 10 and more; one of 2 to 9, near the end, decides the sentiment."""
    lengths = torch.randint(5, 25, (count,))
    lengths[0] = LONGEST
    text = torch.randint(10, WORDS, (count, LONGEST))
    at = (torch.rand(count) * torch.clamp(lengths, max=6)).long()
    word = torch.randint(2, 10, (count,))
    text[torch.arange(count), lengths - 1 - at] = word
    text[torch.arange(LONGEST) >= lengths[:, None]] = 0
    return {"text": text, "lengths": lengths, "label": word % 2}


def loss(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    return F.cross_entropy(model(batch["text"], batch["lengths"]), batch["label"])


def make(faulty: bool) -> Case:
    train, test = [reviews(32) for _ in range(36)], [reviews(32) for _ in range(10)]

    def score(model: nn.Module) -> float:
        with torch.no_grad():
            right = [
                (model(b["text"], b["lengths"]).argmax(1) == b["label"]).float().mean()
                for b in test
            ]
        return float(torch.stack(right).mean())

    return Case(
        Reviews(by_length=not faulty),
        train,
        loss,
        lambda model: fit(model, train, loss, epochs=12, lr=0.003),
        score,
        chance=0.5,
        good=0.9,
        accept={"right": {"padding read"}, "partly": {"vanishing gradient", "forgetting"}}
        if faulty
        else {"healthy", "no long dependency"},
    )
