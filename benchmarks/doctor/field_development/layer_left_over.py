"""A healthy model with a recurrent layer of an earlier version, which forward does not call.

In the faulty program the layer in use is skipped too: forward passes the embedding to the head.

Source: Rebuilt, no single thread: a layer that was renamed or replaced.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, classifier


class Classifier(nn.Module):
    def __init__(self, skip: bool) -> None:
        super().__init__()
        self.skip = skip
        self.embedding = nn.Embedding(12, 32)
        self.lstm = nn.LSTM(32, 32, batch_first=True)
        self.old_rnn = nn.RNN(32, 32, batch_first=True)
        self.fc = nn.Linear(32, 2)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens)
        out, _ = self.lstm(x)
        return self.fc((x if self.skip else out)[:, -1])


def sentences(count: int) -> list[tuple[Tensor, Tensor]]:
    """Sentences whose first word, 0 or 1, decides."""
    tokens, label = torch.randint(2, 12, (count, 12)), torch.randint(2, (count,))
    tokens[:, 0] = label
    return batched(tokens, label)


def make(faulty: bool) -> Case:
    unused = {"right": {"not trained"}, "partly": {"gradient cut"}}
    return classifier(
        Classifier(faulty), sentences(1024), sentences(512), unused if faulty else {"healthy"}
    )
