"""The head reads the embedding of the last character: the output of the GRU goes nowhere.

Source: GitHub Currie32/Spell-Checker#12, "multi-layer lstm implementation" (the next layer gets
the inputs instead of the previous layer's outputs).
"""

import builtins
import inspect

import torch
from torch import nn

from benchmarks.doctor.field_case import Case, accuracy, batched, cross_entropy, fit


class Direction(nn.Module):
    """A classifier of text windows: forward or reversed?"""

    def __init__(self, vocab_size=27, wrong_variable=False):
        super().__init__()
        self.wrong_variable = wrong_variable
        self.embedding = nn.Embedding(vocab_size, 16)
        self.gru = nn.GRU(16, 32, batch_first=True)
        self.proj = nn.Linear(32, 16)
        self.fc = nn.Linear(16, 2)

    def forward(self, text):
        x = self.embedding(text)
        out, _ = self.gru(x)
        out = torch.tanh(self.proj(out))
        last = x[:, -1] if self.wrong_variable else out[:, -1]
        return self.fc(last)


def windows(steps=14):
    """Return windows of the built-in functions' docstrings, half of them reversed."""
    docs = [inspect.getdoc(getattr(builtins, name)) or "" for name in sorted(dir(builtins))]
    text = "".join(c if c.isalpha() and c.isascii() else " " for c in " ".join(docs).lower())
    text = " ".join(text.split())[:28_000]
    ids = torch.tensor([0 if c == " " else ord(c) - ord("a") + 1 for c in text])
    count = len(ids) // steps
    order = torch.randperm(count)
    forward = ids[: count * steps].view(count, steps)[order]
    reversed_ = torch.randint(2, (count,))
    return torch.where(reversed_[:, None] == 1, forward.flip(1), forward), reversed_


def make(faulty: bool) -> Case:
    """Return the program; the head of the faulty one reads the wrong variable."""
    text, reversed_ = windows()
    batches = batched(text[:1536], reversed_[:1536])
    held_out = batched(text[1536:], reversed_[1536:])
    return Case(
        Direction(wrong_variable=faulty),
        batches,
        cross_entropy,
        lambda model: fit(model, batches, cross_entropy, epochs=8, lr=0.005),
        lambda model: accuracy(model, held_out),
        chance=0.5,
        good=0.75,
        accept={"right": {"not trained"}, "partly": set()} if faulty else {"healthy"},
    )
