"""The recurrent layers are kept in a Python list, so that model.parameters() lacks them.

Source: discuss.pytorch.org 159152, "Loss not decreasing in LSTM network" (layers in a list).
"""

import itertools

import torch
from torch import nn

from benchmarks.doctor.field_case import Case, accuracy, batched, cross_entropy, fit


class StackedGRU(nn.Module):
    """A stack of GRU layers of different sizes."""

    def __init__(self, sizes=(4, 24, 16), n_classes=2, as_list=False):
        super().__init__()
        layers = [nn.GRU(i, o, batch_first=True) for i, o in itertools.pairwise(sizes)]
        self.layers = layers if as_list else nn.ModuleList(layers)
        self.classifier = nn.Linear(sizes[-1], n_classes)

    def forward(self, x):
        for layer in self.layers:
            x, _ = layer(x)
        return self.classifier(x[:, -1])


def switches(count, steps=16):
    """Return signals with two switches of one sign or of both; the class: do they agree?"""
    x = 0.3 * torch.randn(count, steps, 4)
    first, second = (torch.randint(2, (count,)) for _ in range(2))
    x[:, 1, 0] += 2.0 * (2 * first - 1)
    x[:, 8, 1] += 2.0 * (2 * second - 1)
    return x, (first == second).long()


def make(faulty: bool) -> Case:
    """Return the program; the faulty one trains the classifier alone."""
    batches, held_out = batched(*switches(40 * 32)), batched(*switches(512))
    return Case(
        StackedGRU(as_list=faulty),
        batches,
        cross_entropy,
        lambda model: fit(model, batches, cross_entropy, epochs=15),
        lambda model: accuracy(model, held_out),
        chance=0.5,
        good=0.9,
        accept={"right": {"not trained"}, "partly": {"forgetting"}} if faulty else {"healthy"},
        options=lambda model: {"optimizer": torch.optim.Adam(model.parameters(), lr=0.01)},
    )
