"""A GRU's update gate is biased to -3 to keep the state; in PyTorch that overwrites it.

Source: kind: Lasagne/Recipes issue 6, "init the bias of the update gate for gru to something large
negative". In `nn.GRU` the gate is the share of the old state, so that the bias has to be positive.
"""

import torch
from torch import Tensor, nn

from benchmarks.doctor.field_case import Case, batched, classifier

UNITS, WORDS, STEPS = 20, 30, 45


class TopicReader(nn.Module):
    def __init__(self, bias: float) -> None:
        super().__init__()
        self.embedding = nn.Embedding(WORDS, 10)
        self.gru = nn.GRU(10, UNITS, batch_first=True)
        self.out = nn.Linear(UNITS, 5)
        with torch.no_grad():
            self.gru.bias_hh_l0[UNITS : 2 * UNITS] = bias

    def forward(self, words: Tensor) -> Tensor:
        return self.out(self.gru(self.embedding(words))[1][-1])


def headlines(count: int) -> tuple[Tensor, Tensor]:
    """Return texts whose first words contain one of five topic words, and the topic."""
    words, y = torch.randint(5, WORDS, (count, STEPS)), torch.randint(5, (count,))
    words[torch.arange(count), torch.randint(4, (count,))] = y
    return words, y


def make(faulty: bool) -> Case:
    batches = batched(*headlines(32 * 40))
    return classifier(
        TopicReader(-3.0 if faulty else 3.0),
        batches[:32],
        batches[32:],
        {"right": {"forgetting", "vanishing gradient"}, "partly": set()} if faulty else {"healthy"},
        epochs=8,
        classes=5,
    )
