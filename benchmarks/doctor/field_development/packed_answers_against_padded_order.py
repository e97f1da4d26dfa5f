"""A bidirectional tagger answers on packed.data; its targets are taken in the padded order.

Source: kind: discuss.pytorch.org, loss of packed sequences against unpacked labels.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence

from benchmarks.doctor.field_case import Case, fit

Batch = tuple[Tensor, Tensor, Tensor]


class PackedTagger(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(12, 16, padding_idx=0)
        self.rnn = nn.LSTM(16, 24, batch_first=True, bidirectional=True)
        self.tag = nn.Linear(48, 3)

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        packed = pack_padded_sequence(self.embed(tokens), lengths, batch_first=True)
        return self.tag(self.rnn(packed)[0].data)


def sentences(count: int) -> list[Batch]:
    """A word's tag is the kind of the last bracket before it, 0 without one."""
    batches = []
    for _ in range(count):
        lengths = torch.randint(8, 21, (32,)).sort(descending=True).values
        tokens = torch.randint(3, 12, (32, int(lengths[0])))
        tokens = torch.where(
            torch.rand(tokens.shape) < 0.1, torch.randint(1, 3, tokens.shape), tokens
        )
        tags, last = torch.zeros_like(tokens), torch.zeros(32, dtype=torch.long)
        for t in range(tokens.shape[1]):
            last = torch.where(tokens[:, t] < 3, tokens[:, t], last)
            tags[:, t] = last
        tokens[torch.arange(tokens.shape[1]) >= lengths[:, None]] = 0
        batches.append((tokens, lengths, tags))
    return batches


def make(faulty: bool) -> Case:
    def packed(tags: Tensor, lengths: Tensor) -> Tensor:
        return pack_padded_sequence(tags, lengths, batch_first=True).data

    def loss(model: nn.Module, batch: Batch) -> Tensor:
        tokens, lengths, tags = batch
        target = tags[tokens > 0] if faulty else packed(tags, lengths)
        return F.cross_entropy(model(tokens, lengths), target)

    train, test = sentences(30), sentences(8)

    @torch.no_grad()
    def score(model: nn.Module) -> float:
        right = [
            (model(x, lengths).argmax(-1) == packed(y, lengths)).float().mean()
            for x, lengths, y in test
        ]
        return float(torch.stack(right).mean())

    return Case(
        PackedTagger(),
        train,
        loss,
        lambda m: fit(m, train, loss, epochs=8),
        score,
        0.4,
        0.95,
        {"right": {"target meets other answers"}, "partly": {"samples mixed"}}
        if faulty
        else {"healthy"},
    )
