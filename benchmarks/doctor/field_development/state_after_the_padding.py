"""Right-padded tokens and h_n without packing: the state is read after the padding.

Source: Stack Overflow, AG_NEWS with nn.RNN; bentrevett/pytorch-sentiment-analysis issue 86.
"""

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from benchmarks.doctor.field_case import Case, batched, classifier


class NewsClassifier(nn.Module):
    def __init__(self, packed: bool) -> None:
        super().__init__()
        self.packed = packed
        self.embedding = nn.Embedding(30, 16, padding_idx=0)
        self.rnn = nn.RNN(16, 32, batch_first=True)
        self.fc = nn.Linear(32, 4)

    def forward(self, tokens: Tensor) -> Tensor:
        embedded = self.embedding(tokens)
        if self.packed:
            lengths = (tokens != 0).sum(dim=1)
            embedded = pack_padded_sequence(embedded, lengths, True, enforce_sorted=False)
        _, hidden = self.rnn(embedded)
        return self.fc(hidden.squeeze(0))


def news(count: int, time: int = 80) -> list[tuple[Tensor, Tensor]]:
    """Texts of 4 to 11 words, one of which shows the class; one long text in each batch."""
    tokens, topic = torch.randint(5, 30, (count, time)), torch.randint(4, (count,))
    lengths = torch.randint(4, 12, (count,))
    lengths[::32] = time
    place = (torch.rand(count) * lengths.clamp(max=11)).long()
    tokens[torch.arange(count), place] = topic + 1
    return batched(tokens * (torch.arange(time) < lengths[:, None]), topic)


def make(faulty: bool) -> Case:
    train, test = news(1536), news(512)
    padding = {"right": {"padding read"}, "partly": {"forgetting", "vanishing gradient"}}
    return classifier(
        NewsClassifier(not faulty),
        train,
        test,
        padding if faulty else {"healthy"},
        classes=4,
        lr=0.003,
        good=0.85,
        epochs=12,
    )
