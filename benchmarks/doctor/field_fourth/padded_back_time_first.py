"""A tagger packs with batch_first and pads back without it; then the scores are viewed by batch.

Kind: pad_packed_sequence whose default is time first, as in many threads on packed taggers; see
GitHub timbmg/Sentence-VAE#15 for the mixed axes.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from benchmarks.doctor.field_case import Case, accuracy, batched, fit

TAGS, WORDS, LONGEST = 4, 25, 14


class PackedTagger(nn.Module):
    """A packed GRU with a score for each tag at each word."""

    def __init__(self, batch_first: bool) -> None:
        super().__init__()
        self.embed = nn.Embedding(WORDS, 16, padding_idx=0)
        self.gru = nn.GRU(16, 24, batch_first=True)
        self.fc = nn.Linear(24, TAGS)
        self.batch_first = batch_first

    def forward(self, words: Tensor, lengths: Tensor) -> Tensor:
        packed = pack_padded_sequence(
            self.embed(words), lengths, batch_first=True, enforce_sorted=False
        )
        out, _ = pad_packed_sequence(
            self.gru(packed)[0], batch_first=self.batch_first, total_length=words.shape[1]
        )
        scores = self.fc(out.reshape(-1, out.shape[2]))
        return scores.view(len(words), -1, TAGS)


def loss_fn(model: nn.Module, batch: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """The cross-entropy over the words; padding has the tag -100."""
    words, lengths, tags = batch
    return F.cross_entropy(model(words, lengths).reshape(-1, TAGS), tags.reshape(-1))


def sentences(count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return sentences, their lengths, and tags: the sum of a word's kind and its precursor's."""
    lengths = torch.randint(6, LONGEST + 1, (count,))
    words = torch.randint(1, WORDS, (count, LONGEST))
    kind = words % TAGS
    before = torch.cat([torch.zeros(count, 1, dtype=torch.long), kind[:, :-1]], dim=1)
    real = torch.arange(LONGEST) < lengths[:, None]
    return words * real, lengths, ((kind + before) % TAGS).masked_fill(~real, -100)


def make(faulty: bool) -> Case:
    """Return the program; the faulty one pads back time first."""
    batches = batched(*sentences(1280))
    train, test = batches[:32], batches[32:]
    return Case(
        PackedTagger(batch_first=not faulty),
        train,
        loss_fn,
        lambda model: fit(model, train, loss_fn, epochs=14, lr=0.02),
        lambda model: accuracy(model, test),
        chance=1 / TAGS,
        good=0.9,
        accept={
            "right": {"target meets other answers", "time and batch swapped", "samples mixed"},
            "partly": {"answer at the wrong step"},
        }
        if faulty
        else {"healthy", "no long dependency"},
    )
