"""Every look-up of a pretrained vector fails, the vectors stay zero, and the embedding is frozen.

Source: tensorflow/nmt issue 443, "model does not learn when using pretrained embeddings", and
bentrevett/pytorch-sentiment-analysis issue 103 on zeros for unknown words.
Data: Python's own reference; the class is whether the characters are in reverse.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import LETTERS, Case, batched, classifier, prose

SIZE = 12


class DirectionClassifier(nn.Module):
    def __init__(self, vectors: Tensor) -> None:
        super().__init__()
        self.embedding = nn.Embedding.from_pretrained(vectors, freeze=True)
        self.rnn = nn.LSTM(SIZE, 32, batch_first=True)
        self.out = nn.Linear(32, 2)

    def forward(self, text: Tensor) -> Tensor:
        return self.out(self.rnn(self.embedding(text))[0].mean(1))


def look_up(pretrained: dict[str, Tensor], keys: str) -> Tensor:
    """Return the vectors of the letters, zeros where there is none."""
    vectors = torch.zeros(28, SIZE)
    for number, key in enumerate(keys, start=1):
        if key in pretrained:
            vectors[number] = pretrained[key]
    return vectors


def passages(count: int, steps: int) -> tuple[Tensor, Tensor]:
    text, y = prose(count * steps).view(count, steps), torch.randint(2, (count,))
    text = text[torch.randperm(count)]
    return torch.where(y[:, None] == 1, text.flip(1), text), y


def make(faulty: bool) -> Case:
    pretrained = {letter: torch.randn(SIZE) for letter in LETTERS}
    batches = batched(*passages(32 * 54, 24))
    return classifier(
        DirectionClassifier(look_up(pretrained, LETTERS.upper() if faulty else LETTERS)),
        batches[:46],
        batches[46:],
        {"right": {"not trained", "gradient cut"}, "partly": {"dead units"}}
        if faulty
        else {"healthy", "no long dependency"},
        epochs=14,
        good=0.85,
    )
