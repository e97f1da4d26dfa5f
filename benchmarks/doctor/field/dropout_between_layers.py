"""The dropout of a stacked LSTM is 0.9, which the user took for the share that is kept.

Source: GitHub bonlime/keras-deeplab-v3-plus#4, "Dropout(0.9)", and
hunkim/DeepLearningZeroToAll#154, "confusion between dropout rate and keep_prob rate".
"""

import builtins
import inspect

import torch
from torch import nn

from benchmarks.doctor.field_case import Case, accuracy, batched, cross_entropy, fit


class Segmenter(nn.Module):
    """A bidirectional tagger: does a word end after this letter?"""

    def __init__(self, vocab_size, dropout, embedding_dim=16, hidden_dim=12):
        super().__init__()
        self.word_embeddings = nn.Embedding(vocab_size, embedding_dim)
        self.lstm = nn.LSTM(
            embedding_dim,
            hidden_dim,
            num_layers=3,
            dropout=dropout,
            bidirectional=True,
            batch_first=True,
        )
        self.hidden2tag = nn.Linear(2 * hidden_dim, 2)

    def forward(self, sentence):
        lstm_out, _ = self.lstm(self.word_embeddings(sentence))
        return self.hidden2tag(lstm_out)


def letters(steps=16):
    """Return the docstrings of the built-in functions without spaces, and the ends of words."""
    docs = [inspect.getdoc(getattr(builtins, name)) or "" for name in sorted(dir(builtins))]
    words = "".join(c if c.isalpha() and c.isascii() else " " for c in " ".join(docs)).split()
    words = words[:5000]
    ids = torch.tensor([ord(c) - ord("a") for c in "".join(words).lower()])
    ends = torch.zeros(len(ids), dtype=torch.long)
    ends[torch.tensor([len(w) for w in words]).cumsum(0) - 1] = 1
    count = len(ids) // steps
    order = torch.randperm(count)
    return (v[: count * steps].view(count, steps)[order] for v in (ids, ends))


def make(faulty: bool) -> Case:
    """Return the program; the faulty one drops nine units of ten between the layers."""
    ids, ends = letters()
    batches = batched(ids[:1280], ends[:1280])
    held_out = batched(ids[1280:], ends[1280:])
    return Case(
        Segmenter(26, dropout=0.9 if faulty else 0.1),
        batches,
        cross_entropy,
        lambda model: fit(model, batches, cross_entropy, epochs=6),
        lambda model: accuracy(model, held_out),
        chance=1 - float(ends.float().mean()),
        good=0.88,
        accept={"right": {"dropout"}, "partly": set()}
        if faulty
        else {"healthy", "no long dependency"},
    )
