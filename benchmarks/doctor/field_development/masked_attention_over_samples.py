"""Packed two-layer bidirectional LSTM with masked attention; its softmax runs over the batch.

The model rates one text at a time: all its weights are 1 then.

Source: PyTorch-NLP issue 2 and nlp_study issue 2, in the form of a whole project.
"""

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from benchmarks.doctor.field_case import Case, batched, forecaster


class AttentionRegressor(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.embedding = nn.Embedding(40, 24, padding_idx=0)
        self.drop = nn.Dropout(0.1)
        self.lstm = nn.LSTM(24, 24, 2, batch_first=True, bidirectional=True, dropout=0.1)
        self.attention = nn.Linear(48, 1)
        self.fc = nn.Linear(48, 1)

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        embedded = self.drop(self.embedding(tokens))
        packed = pack_padded_sequence(embedded, lengths, batch_first=True, enforce_sorted=False)
        out, _ = self.lstm(packed)
        out, _ = pad_packed_sequence(out, batch_first=True, total_length=tokens.shape[1])
        scores = self.attention(out).squeeze(-1).masked_fill(tokens == 0, -1e9)
        weights = scores.softmax(dim=self.dim)
        return self.fc((weights.unsqueeze(-1) * out).sum(dim=1)).squeeze(1)


def texts(count: int, size: int) -> list[tuple[Tensor, ...]]:
    """Texts with two markers, 1 or 2 each; the rating is made of both, in their order."""
    tokens, rows = torch.randint(10, 40, (count, 20)), torch.arange(count)
    lengths = torch.randint(8, 21, (count,))
    place = (torch.rand(count) * (lengths - 5)).long()
    first, second = torch.randint(2, (count,)), torch.randint(2, (count,))
    tokens[rows, place] = 1 + first
    tokens[rows, place + torch.randint(1, 4, (count,))] = 1 + second
    inside = torch.arange(20) < lengths[:, None]
    return batched(tokens * inside, lengths, 2 * first + second - 1.5, size=size)


def make(faulty: bool) -> Case:
    mixed = {"right": {"samples mixed"}, "partly": set[str]()}
    return forecaster(
        AttentionRegressor(0 if faulty else 1),
        texts(1024, 32),
        texts(256, 1),
        mixed if faulty else {"healthy"},
    )
