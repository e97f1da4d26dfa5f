"""A character language model is trained by Adam with a learning rate of one.

Source: GitHub rajveermalviya/language-modeling#3, "Adam's learning rate".
"""

import builtins
import inspect
import math

import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.doctor.field_case import Case


class CharRNN(nn.Module):
    """A GRU over characters that predicts the next one."""

    def __init__(self, vocab_size, embed_size=24, hidden_size=64):
        super().__init__()
        self.encoder = nn.Embedding(vocab_size, embed_size)
        self.rnn = nn.GRU(embed_size, hidden_size)
        self.decoder = nn.Linear(hidden_size, vocab_size)

    def forward(self, data):
        emb = self.encoder(data)
        output, _ = self.rnn(emb)
        return self.decoder(output)


def corpus():
    """Return the docstrings of the built-in functions as ids of characters, and their number."""
    docs = [inspect.getdoc(getattr(builtins, name)) or "" for name in sorted(dir(builtins))]
    text = "".join(c if c.isalnum() else " " for c in "\n".join(docs).lower())
    text = " ".join(text.split())[:20_000]
    chars = sorted(set(text))
    return torch.tensor([chars.index(c) for c in text]), len(chars)


def criterion(model, batch):
    """The mean negative log-likelihood of the next character; batches are (time, batch)."""
    data, target = batch
    output = model(data)
    return F.cross_entropy(output.flatten(0, 1), target.flatten())


def make(faulty: bool) -> Case:
    """Return the program; the faulty one takes steps of one."""
    ids, vocab_size = corpus()
    bptt = 32
    starts = torch.randperm((len(ids) - 1) // bptt) * bptt
    windows = torch.stack([ids[s : s + bptt + 1] for s in starts.tolist() if s + bptt < len(ids)])
    chunks = [w.t() for w in windows.split(16) if len(w) == 16]
    pairs = [(w[:-1], w[1:]) for w in chunks]
    batches, held_out = pairs[:32], pairs[32:]
    shares = torch.bincount(ids, minlength=vocab_size) / len(ids)

    def optimizer_of(model):
        return torch.optim.Adam(model.parameters(), lr=1.0 if faulty else 0.005)

    def training_step(model, optimizer, batch):
        model.train()
        optimizer.zero_grad()
        loss = criterion(model, batch)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.25)
        optimizer.step()

    def fit(model):
        optimizer = optimizer_of(model)
        for _ in range(10):
            for batch in batches:
                training_step(model, optimizer, batch)

    def score(model):
        with torch.no_grad():
            return sum(float(criterion(model, batch)) for batch in held_out) / len(held_out)

    return Case(
        CharRNN(vocab_size),
        batches,
        criterion,
        fit,
        score,
        chance=-sum(p * math.log(p) for p in shares.tolist() if p),
        good=2.3,
        accept={"right": {"step size"}, "partly": {"saturated"}}
        if faulty
        else {"healthy", "no long dependency"},
        options=lambda model: {
            "training_step": training_step,
            "optimizer": optimizer_of(model),
        },
    )
