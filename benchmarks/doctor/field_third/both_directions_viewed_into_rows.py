"""The final states of a packed bidirectional LSTM go through `view(batch, -1)`: requests mix.

Source: kind: discuss.pytorch.org 145062 on what to read from a bidirectional LSTM.
"""

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from benchmarks.doctor.field_case import Case, batched, classifier


class IntentReader(nn.Module):
    def __init__(self, viewed: bool) -> None:
        super().__init__()
        self.embed = nn.Embedding(40, 10, padding_idx=0)
        self.lstm = nn.LSTM(10, 16, batch_first=True, bidirectional=True)
        self.out = nn.Linear(32, 5)
        self.viewed = viewed

    def forward(self, words: Tensor, lengths: Tensor) -> Tensor:
        packed = pack_padded_sequence(
            self.embed(words), lengths, batch_first=True, enforce_sorted=False
        )
        _, (h_n, _) = self.lstm(packed)
        if self.viewed:
            return self.out(h_n.view(len(words), -1))
        return self.out(h_n.transpose(0, 1).reshape(len(words), -1))


def requests(count: int) -> tuple[Tensor, Tensor, Tensor]:
    lengths, y = torch.randint(12, 21, (count,)), torch.randint(5, (count,))
    words = torch.randint(15, 40, (count, 20))
    rows = torch.arange(count)
    words[rows, torch.randint(3, 9, (count,))] = 1 + y
    words[torch.arange(20) >= lengths[:, None]] = 0
    return words, lengths, y


def make(faulty: bool) -> Case:
    batches = batched(*requests(32 * 44))
    return classifier(
        IntentReader(viewed=faulty),
        batches[:34],
        batches[34:],
        accept={"right": {"samples mixed"}, "partly": {"target meets other answers"}}
        if faulty
        else {"healthy", "no long dependency"},
        epochs=7,
        classes=5,
    )
