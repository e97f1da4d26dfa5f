"""`ignore_index=0`, for padding, also drops the tag 0: every tag that counts is 1.

Source: kind: bentrevett/pytorch-pos-tagging, whose loss ignores the padding tag; users copy the
index though their own tags start at 0.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.doctor.field_case import Case, accuracy, batched, fit


class QuoteTagger(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(32, 8)
        self.gru = nn.GRU(8, 16, batch_first=True)
        self.tag = nn.Linear(16, 2)

    def forward(self, words: Tensor) -> Tensor:
        out, _ = self.gru(self.embed(words))
        return self.tag(out)


def sentences(count: int, words: int) -> tuple[Tensor, Tensor]:
    """A word is tagged 1 from an opening mark, word 1, to a closing mark, word 2."""
    x = torch.randint(3, 32, (count, words))
    inside, tags = torch.rand(count) < 0.5, torch.empty_like(x)
    x[:, 0] = torch.where(inside, 1, 2)
    for step in range(words):
        if step:
            turns = torch.rand(count) < 0.12
            inside = inside ^ turns
            x[:, step] = torch.where(turns, torch.where(inside, 1, 2), x[:, step])
        tags[:, step] = inside.long()
    lengths = torch.randint(words // 2, words + 1, (count,))
    padding = torch.arange(words) >= lengths[:, None]
    x[padding], tags[padding] = 0, -100
    return x, tags


def make(faulty: bool) -> Case:
    x, y = sentences(32 * 44, 24)
    batches = batched(x, y)
    padded = batched(x, y.clamp_min(0)) if faulty else batches

    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        words, tags = batch
        ignored = 0 if faulty else -100
        return F.cross_entropy(model(words).transpose(1, 2), tags, ignore_index=ignored)

    return Case(
        QuoteTagger(),
        padded[:34],
        loss,
        lambda model: fit(model, padded[:34], loss, epochs=8),
        lambda model: accuracy(model, batches[34:]),
        chance=0.5,
        good=0.92,
        accept={
            "right": {"answers do not fit the loss", "no dependence found"},
            "partly": {"no long dependency"},
        }
        if faulty
        else {"healthy", "no long dependency"},
    )
