"""Embedding and LSTM are frozen as if they were pretrained, but no weights were loaded.

Source: GitHub pytorch/pytorch#7722, "Error in backprop when using frozen LSTM layers".
"""

import torch
from torch import nn

from benchmarks.doctor.field_case import Case, accuracy, batched, cross_entropy, fit


class TransferClassifier(nn.Module):
    """A language-model backbone with a new head."""

    def __init__(self, vocab_size=20, n_classes=4, freeze_backbone=False):
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, 16)
        self.backbone = nn.LSTM(16, 24, num_layers=1, batch_first=True)
        self.head = nn.Sequential(nn.Linear(24, 24), nn.ReLU(), nn.Linear(24, n_classes))
        if freeze_backbone:
            for module in (self.embedding, self.backbone):
                for param in module.parameters():
                    param.requires_grad = False

    def forward(self, tokens):
        _, (hidden, _) = self.backbone(self.embedding(tokens))
        return self.head(hidden[-1])


def requests(count, steps=11):
    """Return token sequences whose first token, of four commands, is the class."""
    command = torch.randint(4, (count, 1))
    rest = torch.randint(4, 20, (count, steps - 1))
    return torch.cat([command, rest], 1), command.squeeze(1)


def make(faulty: bool) -> Case:
    """Return the program; the faulty one trains the head alone."""
    batches, held_out = batched(*requests(48 * 64), size=64), batched(*requests(512))
    return Case(
        TransferClassifier(freeze_backbone=faulty),
        batches,
        cross_entropy,
        lambda model: fit(model, batches, cross_entropy, epochs=30),
        lambda model: accuracy(model, held_out),
        chance=0.25,
        good=0.9,
        accept={"right": {"not trained"}, "partly": {"forgetting"}} if faulty else {"healthy"},
    )
