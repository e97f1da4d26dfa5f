"""A character model changes from SGD to RMSprop and keeps the rate of 0.5.

Source: GitHub harvardnlp/seq2seq-attn#80, "Ask for help" (an adaptive optimiser with a large rate).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.doctor.field_case import Case, answers, batched, cross_entropy, fit, prose

CHARACTERS, LENGTH = 28, 24


class CharRNN(nn.Module):
    """A GRU that predicts the next character."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Embedding(CHARACTERS, 24)
        self.gru = nn.GRU(24, 48, batch_first=True)
        self.decoder = nn.Linear(48, CHARACTERS)

    def forward(self, text: Tensor) -> Tensor:
        out, _ = self.gru(self.encoder(text))
        return self.decoder(out)


def make(faulty: bool) -> Case:
    """Return the program; the right one has a rate of 0.01."""
    rows = prose(40 * 32 * (LENGTH + 1)).view(-1, LENGTH + 1)
    rows = rows[torch.randperm(len(rows))]
    batches = batched(rows[:, :-1], rows[:, 1:])
    train, test = batches[:32], batches[32:]

    def optimizer_of(model: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.RMSprop(model.parameters(), lr=0.5 if faulty else 0.01)

    def score(model: nn.Module) -> float:
        losses = [
            F.cross_entropy(scores.flatten(0, 1), target.flatten())
            for scores, target in answers(model, test)
        ]
        return float(torch.stack(losses).mean())

    return Case(
        CharRNN(),
        train,
        cross_entropy,
        lambda model: fit(model, train, cross_entropy, 10, optimizer=optimizer_of(model)),
        score,
        chance=2.9,
        good=2.3,
        accept={"right": {"step size"}, "partly": {"saturated", "exploding gradient"}}
        if faulty
        else {"healthy", "no long dependency"},
        options=lambda _: {"optimizer": optimizer_of},
    )
