"""Sequences are sorted by length for packing, and the answers are not put back in their order.

Source: Rebuilt, no single thread: the usual mistake of sorting for pack_padded_sequence.
"""

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from benchmarks.doctor.field_case import Case, batched, classifier, cued


class PackedClassifier(nn.Module):
    def __init__(self, restore: bool) -> None:
        super().__init__()
        self.restore = restore
        self.gru = nn.GRU(4, 32, batch_first=True)
        self.fc = nn.Linear(32, 2)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        lengths, order = lengths.sort(descending=True)
        packed = pack_padded_sequence(x[order], lengths.cpu(), batch_first=True)
        _, hidden = self.gru(packed)
        out = self.fc(hidden[-1])
        return out[order.argsort()] if self.restore else out


def sequences(count: int) -> list[tuple[Tensor, ...]]:
    x, y = cued(count, 20)
    return batched(x, torch.randint(6, 21, (count,)), y)


def make(faulty: bool) -> Case:
    mixed = {"right": {"samples mixed"}, "partly": {"target meets other answers"}}
    return classifier(
        PackedClassifier(not faulty),
        sequences(1024),
        sequences(512),
        mixed if faulty else {"healthy"},
    )
