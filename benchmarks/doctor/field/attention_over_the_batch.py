"""The attention's softmax runs over the first axis, which is the batch.

Source: PetrochukM/PyTorch-NLP, issue 2, "Attention's softmax dimension is wrong?"; the answers in
training look right, those to a single input do not.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.doctor.field_case import Case, accuracy, batched, cross_entropy, fit

MARK = 9


class AttentionClassifier(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(MARK + 9, 16)
        self.gru = nn.GRU(16, 24, batch_first=True, bidirectional=True)
        self.attention = nn.Linear(48, 1)
        self.fc = nn.Linear(48, 8)
        self.dim = dim

    def forward(self, x: Tensor) -> Tensor:
        states, _ = self.gru(self.embedding(x))
        scores = self.attention(states).squeeze(-1)  # (batch, time)
        weights = F.softmax(scores, dim=self.dim)
        return self.fc((weights.unsqueeze(-1) * states).sum(1))


def questions(count: int, steps: int) -> tuple[Tensor, Tensor]:
    """Words 1 to 8; one of them is marked (9 is added), and it is the answer."""
    x = torch.randint(1, 9, (count, steps))
    at = torch.randint(steps, (count,))
    rows = torch.arange(count)
    y = x[rows, at] - 1
    x[rows, at] += MARK
    return x, y


def make(faulty: bool) -> Case:
    batches = batched(*questions(32 * 40, 25))
    train, test = batches[:32], batches[32:]
    single = [(x[i : i + 1], y[i : i + 1]) for x, y in test for i in range(len(x))]
    return Case(
        AttentionClassifier(dim=0 if faulty else 1),
        train,
        cross_entropy,
        lambda model: fit(model, train, cross_entropy, epochs=8),
        lambda model: accuracy(model, single),
        chance=1 / 8,
        good=0.95,
        accept={"right": {"samples mixed"}, "partly": set()} if faulty else {"healthy"},
    )
