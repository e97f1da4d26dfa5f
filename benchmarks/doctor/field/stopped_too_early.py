"""A siamese network is trained for a few batches.

Source: whosebug.com 4230002, "Output from LSTM not changing for different inputs", and Cross
Validated 376851 (few iterations; with more the results get better).
"""

import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.doctor.field_case import Case, digits


class SiameseGRU(nn.Module):
    """Two images, row by row, through the same GRU; the answer is their distance."""

    def __init__(self, hidden=32, out=16):
        super().__init__()
        self.gru = nn.GRU(8, hidden, batch_first=True)
        self.embed = nn.Linear(hidden, out)

    def forward_once(self, x):
        _, h = self.gru(x)
        return self.embed(h[-1])

    def forward(self, left, right):
        return F.pairwise_distance(self.forward_once(left), self.forward_once(right))


def contrastive(model, batch, margin=2.0):
    """The contrastive loss; the target is 1 for images of one class."""
    distance = model(batch["left"], batch["right"])
    same = batch["same"]
    return (same * distance**2 + (1 - same) * F.relu(margin - distance) ** 2).mean()


def pairs(images, labels, count):
    """Return batches of 32 pairs of images, half of them of one class."""
    batches = []
    for _ in range(count):
        left = torch.randint(len(images), (32,))
        other = torch.randint(len(images), (32,))
        twin = torch.stack(
            [torch.multinomial((labels == label).float(), 1)[0] for label in labels[left]]
        )
        right = torch.where(torch.arange(32) % 2 == 0, twin, other)
        same = (labels[left] == labels[right]).float()
        batches.append({"left": images[left], "right": images[right], "same": same})
    return batches


def make(faulty: bool) -> Case:
    """Return the program; the faulty one stops after a few steps."""
    images, labels = digits()
    batches = pairs(images[:1200], labels[:1200], 40)
    held_out = pairs(images[1200:], labels[1200:], 16)

    def fit(model):
        optimizer = torch.optim.Adam(model.parameters(), lr=0.003)
        for _ in range(1 if faulty else 15):
            for batch in batches[:4] if faulty else batches:
                optimizer.zero_grad()
                contrastive(model, batch).backward()
                optimizer.step()

    def score(model):
        """The share of pairs that lie on the right side of half the margin."""
        with torch.no_grad():
            right = [(model(b["left"], b["right"]) < 1.0) == (b["same"] == 1) for b in held_out]
        return float(torch.cat(right).float().mean())

    return Case(
        SiameseGRU(),
        batches,
        contrastive,
        fit,
        score,
        chance=0.5,
        good=0.85,
        accept={"right": {"undertrained"}, "partly": set()} if faulty else {"healthy"},
    )
