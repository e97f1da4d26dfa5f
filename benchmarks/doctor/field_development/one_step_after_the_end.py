"""Unpacked outputs are read at index `length`, one step after the end, where they are 0.

Source: kind: stackoverflow, gather the last output of pad_packed_sequence, off by one.
"""

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from benchmarks.doctor.field_case import Case, batched, classifier


class LastReader(nn.Module):
    def __init__(self, late: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(15, 12)
        self.lstm = nn.LSTM(12, 24, num_layers=2, batch_first=True)
        self.fc = nn.Linear(24, 3)
        self.late = late

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        packed = pack_padded_sequence(
            self.embed(tokens), lengths, batch_first=True, enforce_sorted=False
        )
        output, _ = pad_packed_sequence(self.lstm(packed)[0], batch_first=True, total_length=24)
        index = (lengths - 1 + self.late)[:, None, None].expand(-1, 1, output.shape[2])
        return self.fc(output.gather(1, index).squeeze(1))


def phrases(count: int) -> list[tuple[Tensor, ...]]:
    tokens, lengths = torch.randint(4, 15, (count, 24)), torch.randint(10, 24, (count,))
    kind = torch.randint(3, (count,))
    tokens[torch.arange(count), torch.randint(0, 5, (count,))] = 1 + kind
    return batched(tokens.masked_fill(torch.arange(24) >= lengths[:, None], 0), lengths, kind)


def make(faulty: bool) -> Case:
    return classifier(
        LastReader(int(faulty)),
        phrases(1024),
        phrases(320),
        {"right": {"padding read", "answer at the wrong step"}, "partly": set()}
        if faulty
        else {"healthy"},
        epochs=12,
        classes=3,
    )
