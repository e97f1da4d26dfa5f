"""A tagger creates its hidden state inside the loop over time: each step starts from zero.

Source: GitHub spdin/time-series-prediction-lstm-pytorch#1, "forward always make hidden state
zeros", and pytorch/tutorials#95, "fix self.init_hidden never used".
"""

import inspect
import json
import textwrap

import torch
from torch import nn

from benchmarks.doctor.field_case import Case, batched, cross_entropy, fit


class CellTagger(nn.Module):
    """An LSTM cell over the characters of source code, and a tag for each."""

    def __init__(self, vocab_size, hidden_dim=32, reset=False):
        super().__init__()
        self.hidden_dim = hidden_dim
        self.reset = reset
        self.embedding = nn.Embedding(vocab_size, 16)
        self.lstm_cell = nn.LSTMCell(16, hidden_dim)
        self.linear = nn.Linear(hidden_dim, 2)

    def init_hidden(self, batch_size):
        return torch.zeros(batch_size, self.hidden_dim), torch.zeros(batch_size, self.hidden_dim)

    def forward(self, x):
        embeds = self.embedding(x)
        outputs = []
        h, c = self.init_hidden(x.size(0))
        for t in range(x.size(1)):
            if self.reset:
                h, c = self.init_hidden(x.size(0))
            h, c = self.lstm_cell(embeds[:, t], (h, c))
            outputs.append(self.linear(h))
        return torch.stack(outputs, dim=1)


def source(steps=24):
    """Return windows of Python source, and for each character: is it inside of parentheses?"""
    text = textwrap.dedent(inspect.getsource(json.decoder) + inspect.getsource(json.encoder))
    text = " ".join(text.replace('"', "'").split())
    kept = "()[]{}.,:='_ "
    text = "".join(c if c in kept else "a" for c in text)
    chars = sorted(set(text))
    xs, ys = [], []
    for start in range(0, len(text) - steps, 12):
        depth, inside = 0, []
        for c in text[start : start + steps]:
            depth = max(0, depth + (c == "(") - (c == ")"))
            inside.append(int(depth > 0))
        xs.append([chars.index(c) for c in text[start : start + steps]])
        ys.append(inside)
    order = torch.randperm(len(xs))
    return torch.tensor(xs)[order], torch.tensor(ys)[order], len(chars)


def make(faulty: bool) -> Case:
    """Return the program; the faulty one calls init_hidden at each step."""
    x, y, vocab_size = source()
    batches, held_out = batched(x[:1280], y[:1280]), batched(x[1280:], y[1280:])

    def score(model):
        """The mean of the accuracies inside and outside of parentheses."""
        with torch.no_grad():
            pairs = [(model(x).argmax(-1), y) for x, y in held_out]
        guess, y = (torch.cat([p[i] for p in pairs]) for i in (0, 1))
        return float(sum((guess[y == k] == k).float().mean() for k in (0, 1)) / 2)

    return Case(
        CellTagger(vocab_size, reset=faulty),
        batches,
        cross_entropy,
        lambda model: fit(model, batches, cross_entropy, epochs=7),
        score,
        chance=0.5,
        good=0.9,
        accept={"right": {"forgetting"}, "partly": {"one-step sequences", "gradient cut"}}
        if faulty
        else {"healthy"},
    )
