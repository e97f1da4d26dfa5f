"""outputs[:, -1] of right-padded reviews; the batch has the lengths, the model leaves them unused.

Source: Rebuilt after bentrevett/pytorch-sentiment-analysis issue 86.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, classifier


class SentimentLSTM(nn.Module):
    def __init__(self, use_lengths: bool) -> None:
        super().__init__()
        self.use_lengths = use_lengths
        self.embedding = nn.Embedding(60, 16, padding_idx=0)
        self.lstm = nn.LSTM(16, 32, batch_first=True)
        self.fc = nn.Linear(32, 2)

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        out, _ = self.lstm(self.embedding(tokens))
        if self.use_lengths:
            return self.fc(out[torch.arange(len(tokens)), lengths - 1])
        return self.fc(out[:, -1])


def reviews(count: int, time: int = 60) -> list[tuple[Tensor, ...]]:
    """Reviews of 6 to 12 words; 1 to 4 in the first half are positive, 5 to 8 negative."""
    tokens, label = torch.randint(9, 60, (count, time)), torch.randint(2, (count,))
    lengths = torch.randint(6, 13, (count,))
    lengths[::32] = time
    place = (torch.rand(count) * 5).long()
    tokens[torch.arange(count), place] = torch.randint(1, 5, (count,)) + 4 * label
    return batched(tokens * (torch.arange(time) < lengths[:, None]), lengths, label)


def make(faulty: bool) -> Case:
    train, test = reviews(1024), reviews(512)
    padding = {"right": {"padding read"}, "partly": {"forgetting", "vanishing gradient"}}
    return classifier(
        SentimentLSTM(not faulty),
        train,
        test,
        padding if faulty else {"healthy"},
        lr=0.003,
        epochs=8,
    )
