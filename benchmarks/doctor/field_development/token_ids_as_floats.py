"""Token ids up to 500 go into the LSTM as plain numbers, without an embedding.

Source: Rebuilt, no single thread: x.float().unsqueeze(-1) in place of an embedding.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, classifier


class TextClassifier(nn.Module):
    def __init__(self, floats: bool) -> None:
        super().__init__()
        self.floats = floats
        self.embedding = nn.Embedding(500, 16)
        self.lstm = nn.LSTM(1 if floats else 16, 32, batch_first=True)
        self.fc = nn.Linear(32, 2)

    def forward(self, tokens: Tensor) -> Tensor:
        x = tokens.float().unsqueeze(-1) if self.floats else self.embedding(tokens)
        return self.fc(self.lstm(x)[0][:, -1])


def sentences(count: int) -> list[tuple[Tensor, Tensor]]:
    """Sentences with one of six words that decide, of neighbouring ids; other words do not."""
    first = torch.tensor([60, 130, 290])
    tokens, label = torch.randint(10, 480, (count, 12)), torch.randint(2, (count,))
    tokens[torch.isin(tokens, torch.cat([first, first + 1]))] = 481
    word = first[torch.randint(3, (count,))] + label
    tokens[torch.arange(count), torch.randint(12, (count,))] = word
    return batched(tokens, label)


def make(faulty: bool) -> Case:
    unscaled = {"right": {"inputs not scaled"}, "partly": {"saturated"}}
    return classifier(
        TextClassifier(faulty),
        sentences(1536),
        sentences(512),
        unscaled if faulty else {"healthy"},
        epochs=12,
    )
