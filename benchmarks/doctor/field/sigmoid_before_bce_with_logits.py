"""A tagger of characters ends in a sigmoid, and the loss is binary cross-entropy of logits.

Source: runebook.dev on BCEWithLogitsLoss, "the most frequent mistake: the sigmoid applied twice".
Data: lines of the standard library's source. The tags of a character: inside a string, and inside
a comment.
"""

import inspect
import json
import random
import textwrap

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.doctor.field_case import Case, batched, fit

T = 40


class Highlighter(nn.Module):
    def __init__(self, sigmoid: bool) -> None:
        super().__init__()
        self.embed = nn.Embedding(128, 12)
        self.gru = nn.GRU(12, 24, num_layers=1, batch_first=True)
        self.tags = nn.Linear(24, 2)
        self.sigmoid = nn.Sigmoid() if sigmoid else None

    def forward(self, chars: Tensor) -> Tensor:
        out, _ = self.gru(self.embed(chars))
        tags = self.tags(out)
        return tags if self.sigmoid is None else self.sigmoid(tags)


def tagged(line: str) -> list[tuple[float, float]]:
    tags, quote = list[tuple[float, float]](), ""
    for character in line:
        if quote == "#":
            tags.append((0.0, 1.0))
        elif quote:
            tags.append((1.0, 0.0))
            quote = "" if character == quote else quote
        else:
            quote = character if character in "'\"#" else ""
            tags.append((0.0, float(quote == "#")))
    return tags


def source() -> tuple[Tensor, Tensor]:
    modules = (json.decoder, json.encoder, inspect, textwrap, random)
    text = "\n".join(inspect.getsource(m) for m in modules)
    lines = [line.strip()[:T].ljust(T) for line in text.splitlines() if '"""' not in line]
    lines = [line for line in lines if line.isascii() and any(q in line for q in "'\"#")]
    x = torch.tensor([list(line.encode()) for line in lines])
    y = torch.tensor([tagged(line) for line in lines])
    order = torch.randperm(len(x))
    return x[order], y[order]


def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    x, y = batch
    return F.binary_cross_entropy_with_logits(model(x), y)


def make(faulty: bool) -> Case:
    x, y = source()
    batches = batched(x, y, size=16)
    train, test = batches[:40], batches[40:]
    rates = y.mean((0, 1))
    chance = float(F.binary_cross_entropy(rates, rates))

    def score(model: nn.Module) -> float:
        with torch.no_grad():
            return sum(float(loss(model, b)) for b in test) / len(test)

    return Case(
        Highlighter(sigmoid=faulty),
        train,
        loss,
        lambda model: fit(model, train, loss, epochs=7, lr=0.02),
        score,
        chance=chance,
        good=0.5 * chance,
        accept={"right": {"answers do not fit the loss"}, "partly": set()}
        if faulty
        else {"healthy"},
    )
