"""Attention over the packed outputs of a bidirectional layer; its query is `h_n.view(batch, -1)`.

Source: graykode/nlp-tutorial, issue 38, "Question about tensor.view operation in Bi-LSTM
(Attention)". The lengths differ, and the mask of the attention is right in both programs.
"""

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from benchmarks.doctor.field_case import Case, accuracy, cross_entropy, fit

KEYS, VALUES = 5, 6


class AttentiveReader(nn.Module):
    def __init__(self, hidden: int, view: bool) -> None:
        super().__init__()
        self.embedding = nn.Embedding(1 + KEYS * VALUES + 2 * KEYS, 24, padding_idx=0)
        self.lstm = nn.LSTM(24, hidden, bidirectional=True, batch_first=True)
        self.query = nn.Linear(2 * hidden, 2 * hidden)
        self.fc = nn.Linear(2 * hidden, VALUES)
        self.view = view

    def forward(self, x: Tensor, lengths: Tensor, question: Tensor) -> Tensor:
        packed = pack_padded_sequence(self.embedding(x), lengths, True, enforce_sorted=False)
        packed, _ = self.lstm(packed)
        states, _ = pad_packed_sequence(packed, batch_first=True)
        _, (h, _) = self.lstm(self.embedding(question))
        last = h.view(len(x), -1) if self.view else torch.cat((h[0], h[1]), 1)
        scores = torch.bmm(states, self.query(last).unsqueeze(2)).squeeze(2)
        scores = scores.masked_fill(x[:, : states.size(1)] == 0, float("-inf"))
        return self.fc((scores.softmax(1).unsqueeze(2) * states).sum(1))


def stories(count: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Facts of a key and a value, each key at most once; the question has two words and a key."""
    facts = torch.stack([torch.randperm(KEYS) for _ in range(count)])
    values = torch.randint(VALUES, (count, KEYS))
    lengths = torch.randint(2, KEYS + 1, (count,))
    rows = torch.arange(count)
    asked = (torch.rand(count) * lengths).long()
    x = 1 + facts * VALUES + values
    x[torch.arange(KEYS) >= lengths[:, None]] = 0
    words = torch.randint(KEYS, (count, 2))
    question = torch.cat((words + KEYS * VALUES + KEYS + 1, facts[rows, asked][:, None]), 1)
    question[:, 2] += KEYS * VALUES + 1
    return x, lengths, question, values[rows, asked]


def make(faulty: bool) -> Case:
    train, test = [stories(64) for _ in range(48)], [stories(64) for _ in range(8)]
    return Case(
        AttentiveReader(24, view=faulty),
        train,
        cross_entropy,
        lambda model: fit(model, train, cross_entropy, epochs=14),
        lambda model: accuracy(model, test),
        chance=1 / VALUES,
        good=0.9,
        accept={"right": {"samples mixed"}, "partly": set()} if faulty else {"healthy"},
    )
